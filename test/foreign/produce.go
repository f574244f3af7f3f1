// Package foreign is an application that uses Shoal through another SQLite
// library than Shoal's own: each of its orders is a row of its own table and a
// job, in one transaction. The programs in mattn and modernc are that
// application, with a library each; the tests here kill them beside a fleet.
package foreign

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store/sqlitetx"
)

// Order is the payload of the job type Ship.
type Order struct {
	Key string `json:"key"`
}

// Begun, Committed and RolledBack open the lines of a history. A key that was
// begun and has no other line is one whose end nobody knows.
const (
	Begun      = "begun "
	Committed  = "committed "
	RolledBack = "rolledback "
)

// producer takes orders until it is killed.
type producer struct {
	db      *sql.DB
	history *os.File
	name    string
	await   bool
}

// Main is the program. open opens a file with a transaction begun IMMEDIATE,
// synchronous=FULL and a busy timeout. It prints the version of SQLite, and
// ends when its standard input does: with the test.
func Main(open func(path string) (*sql.DB, error), args []string, stdin io.Reader, stdout io.Writer) error {
	flags := flag.NewFlagSet("producer", flag.ContinueOnError)
	path := flags.String("db", "", "the database")
	historyPath := flags.String("history", "", "the `file` for what is known of each order")
	name := flags.String("name", "", "begins the keys of the orders, and is no other producer's")
	count := flags.Int("n", 0, "how many orders; 0: until the end")
	await := flags.Bool("await", false, "wait for each order's job")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, stdin) // its end is all that it says
		stop()
	}()
	db, err := open(*path)
	if err != nil {
		return err
	}
	defer db.Close()
	var version string
	if err := db.QueryRowContext(ctx, `SELECT sqlite_version()`).Scan(&version); err != nil {
		return err
	}
	fmt.Fprintln(stdout, version)
	history, err := os.OpenFile(*historyPath, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer history.Close()
	p := &producer{db: db, history: history, name: *name, await: *await}
	for n := 1; ctx.Err() == nil && (*count == 0 || n <= *count); n++ {
		if err := p.order(n); err != nil {
			return fmt.Errorf("order %d: %w", n, err)
		}
	}
	return nil
}

// Every so many orders one is rolled back, and the log is checkpointed in a way
// that starts it anew.
const (
	rollbackEvery   = 10
	checkpointEvery = 25
)

// order takes one order. It is acknowledged when its line is in the history.
func (p *producer) order(n int) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	key := fmt.Sprintf("%s-%d", p.name, n)
	if err := p.note(Begun, key); err != nil {
		return err
	}
	tx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // after a commit there is nothing to roll back
	if _, err := tx.ExecContext(ctx, `INSERT INTO orders (key) VALUES (?)`, key); err != nil {
		return err
	}
	ship, err := jobs.NewJob("Ship", Order{key})
	if err != nil {
		return err
	}
	ids, err := sqlitetx.Enqueue(ctx, tx, ship)
	if err != nil {
		return err
	}
	if n%rollbackEvery == 0 {
		return errors.Join(tx.Rollback(), p.note(RolledBack, key))
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if err := p.note(Committed, key); err != nil {
		return err
	}
	if n%checkpointEvery == 0 {
		var busy, pages, done int
		if err := p.db.QueryRowContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &pages, &done); err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
	}
	if p.await {
		return p.shipped(ctx, ids[0])
	}
	return nil
}

// shipped waits until the job is completed.
func (p *producer) shipped(ctx context.Context, id int64) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		var status jobs.Status
		if err := p.db.QueryRowContext(ctx, `SELECT status FROM sync_jobs WHERE id = ?`, id).Scan(&status); err != nil {
			return err
		}
		if status == jobs.Completed {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("job %d is %s: %w", id, status, ctx.Err())
		}
	}
}

// note writes a line at once: a kill leaves it there whole, or not at all.
func (p *producer) note(what, key string) error {
	_, err := p.history.WriteString(what + key + "\n")
	return err
}
