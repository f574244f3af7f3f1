package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	_ "github.com/mattn/go-sqlite3"
	"github.com/mikestefanello/backlite"
)

type backliteQueue struct {
	store  sqliteStore
	client *backlite.Client
}

type backliteTask struct{}

// Config is the example under "Declaring a Task type" in Backlite's README. It
// keeps what was completed, as the other queues on SQLite do.
func (backliteTask) Config() backlite.QueueConfig {
	return backlite.QueueConfig{
		Name:        "noop",
		MaxAttempts: 5,
		Backoff:     5 * time.Second,
		Timeout:     10 * time.Second,
		Retention: &backlite.Retention{
			Duration: 6 * time.Hour,
			Data:     &backlite.RetainData{OnlyFailed: true},
		},
	}
}

// openBacklite: the driver, its two settings and the client's are those under
// "Client initialization" in Backlite's README, which limits no connections and
// says nothing of synchronous.
func openBacklite(ctx context.Context, s setup) (_ queue, err error) {
	store, err := openSQLite(ctx, "sqlite3", "github.com/mattn/go-sqlite3", filepath.Join(s.dir, "data.db"), "_journal=WAL&_timeout=5000")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			store.Close()
		}
	}()
	client, err := backlite.NewClient(backlite.ClientConfig{
		DB:              store.DB,
		Logger:          s.log,
		ReleaseAfter:    10 * time.Minute,
		NumWorkers:      s.slots,
		CleanupInterval: time.Hour,
	})
	if err != nil {
		return nil, err
	}
	if err := client.Install(); err != nil {
		return nil, fmt.Errorf("make the tables: %w", err)
	}
	client.Register(backlite.NewQueue(func(context.Context, backliteTask) error {
		s.ran()
		return nil
	}))
	return &backliteQueue{store: store, client: client}, nil
}

func (q *backliteQueue) how() string { return q.store.durable }

// enqueue: "Bulk inserts" in Backlite's README; one Save is one transaction.
func (q *backliteQueue) enqueue(ctx context.Context, jobs int) error {
	all := slices.Repeat([]backlite.Task{backliteTask{}}, jobs)
	for some := range slices.Chunk(all, batch) {
		if _, err := q.client.Add(some...).Ctx(ctx).Save(); err != nil {
			return err
		}
	}
	return nil
}

// start hands over no deadline: the end of that context would be a hard stop
// with transactions open, and close comes first.
func (q *backliteQueue) start(ctx context.Context) error {
	q.client.Start(context.WithoutCancel(ctx))
	return nil
}

func (q *backliteQueue) left(ctx context.Context) (int, error) {
	return q.store.count(ctx, `SELECT count(*) FROM backlite_tasks`)
}

func (q *backliteQueue) completed(ctx context.Context) (int, error) {
	return q.store.count(ctx, `SELECT count(*) FROM backlite_tasks_completed WHERE succeeded`)
}

func (q *backliteQueue) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var err error
	if !q.client.Stop(ctx) {
		err = errors.New("backlite's workers did not stop within 10 s")
	}
	return errors.Join(err, q.store.Close())
}
