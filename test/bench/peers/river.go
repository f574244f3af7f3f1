package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	_ "modernc.org/sqlite"
)

type riverQueue struct {
	store  sqliteStore
	client *river.Client[*sql.Tx]
	log    *slog.Logger
}

type riverArgs struct{}

func (riverArgs) Kind() string { return "noop" }

// openRiver: https://riverqueue.com/docs/sqlite uses modernc.org/sqlite with one
// connection; WAL is from the notes that River's own program refers to
// (rivershared/riversharedtest, DBPoolSQLite). Neither says anything of
// synchronous, so that it stays what the driver makes it.
func openRiver(ctx context.Context, s setup) (_ queue, err error) {
	store, err := openSQLite(ctx, "sqlite", "modernc.org/sqlite", filepath.Join(s.dir, "river.sqlite3"), "_pragma=journal_mode(WAL)")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			store.Close()
		}
	}()
	store.SetMaxOpenConns(1)
	driver := riversqlite.New(store.DB)
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: s.log})
	if err != nil {
		return nil, err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return nil, fmt.Errorf("make the tables: %w", err)
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, river.WorkFunc(func(context.Context, *river.Job[riverArgs]) error {
		s.ran()
		return nil
	}))
	client, err := river.NewClient(driver, &river.Config{
		Logger:  s.log,
		Queues:  map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: s.slots}},
		Workers: workers,
		// What River measures itself with (https://riverqueue.com/docs/benchmarks,
		// cmd/river/riverbench): with the defaults of 100 ms and 1 s it would mostly
		// be waiting here.
		FetchCooldown:     2 * time.Millisecond,
		FetchPollInterval: 20 * time.Millisecond,
	})
	if err != nil {
		return nil, err
	}
	return &riverQueue{store: store, client: client, log: s.log}, nil
}

func (q *riverQueue) how() string {
	return q.store.durable + "; fetches as often as River's own benchmark"
}

// enqueue: https://riverqueue.com/docs/batch-job-insertion has InsertManyFast for
// thousands of jobs. In v0.31.0 it panics where a driver can't listen, as SQLite's,
// unless the client only inserts: one without Queues (doc of river.Config).
func (q *riverQueue) enqueue(ctx context.Context, jobs int) error {
	inserter, err := river.NewClient(riversqlite.New(q.store.DB), &river.Config{Logger: q.log})
	if err != nil {
		return err
	}
	all := slices.Repeat([]river.InsertManyParams{{Args: riverArgs{}}}, jobs)
	for some := range slices.Chunk(all, batch) {
		if _, err := inserter.InsertManyFast(ctx, some); err != nil {
			return err
		}
	}
	return nil
}

func (q *riverQueue) start(ctx context.Context) error { return q.client.Start(ctx) }

// left names the states that are not final, as an index begins with the state.
func (q *riverQueue) left(ctx context.Context) (int, error) {
	return q.store.count(ctx, `SELECT count(*) FROM river_job WHERE state IN ('available', 'pending', 'retryable', 'running', 'scheduled')`)
}

func (q *riverQueue) completed(ctx context.Context) (int, error) {
	return q.store.count(ctx, `SELECT count(*) FROM river_job WHERE state = 'completed'`)
}

func (q *riverQueue) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(q.client.StopAndCancel(ctx), q.store.Close())
}
