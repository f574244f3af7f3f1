// Package sqlite is the engine that keeps the queue in one SQLite file, shared
// by any number of processes on one machine.
//
// # What it guarantees
//
// What a method has acknowledged is on the disk (synchronous=FULL; the folder
// is synced when a file is new). Leases are timed by the kernel's monotonic
// clock, and a worker's death is seen in the lock that the kernel drops with
// it: neither a wall clock nor a process id decides anything. [Open] refuses
// what can't keep these promises, a network file system for one, and the store
// closes itself when the file is moved or replaced under it.
//
// # How it writes
//
// SQLite has one write lock and one sync a commit, so a process has one writer:
// it takes whatever operations wait, runs them in one transaction, and answers
// them all after its commit (writer.go). Between processes there is a baton, a queue
// before SQLite's lock (baton.go): who has it writes for a spell of some 20 ms. It is
// advice; other programs need none. Transactions with foreign code in them
// (Finish, Write) have a connection of their own, under the same mutex.
//
// # What it does not
//
// "Shared" means one kernel: several containers or services on one host, not
// several hosts. A process must not open the file with another SQLite library
// as well: closing one of its descriptors drops the other's locks. The
// application's own connections of the ncruces driver are fine.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// Memory is the path of a private, temporary database that ends with its store.
const Memory = ":memory:"

// memoryMaxPending bounds a Memory database: it is a buffer, not a place to keep things.
const memoryMaxPending = 1000

// Options configure a store. A field that is zero means its default, which stands in
// brackets.
type Options struct {
	// MaxPending is kept in the file: an Enqueue by anyone that would leave more jobs
	// than that pending fails with jobs.ErrQueueFull. It does not bind follow-ups,
	// ticks, sqlitetx and plain SQL [what the file says; in a new one no limit, or 1,000
	// for Memory]. It costs each commit of enqueues a look at the counts of all queues
	// and types, and one that is refused a count of the pending jobs.
	MaxPending int
	// Existing refuses to make a database that is not there, or a queue in one that
	// has none [false].
	Existing bool
	// Now is the wall clock [time.Now].
	Now func() time.Time
	// Logger gets warnings [none: they are dropped].
	Logger *zap.Logger
}

// DB is an open database. It implements jobs.Store, jobs.Operator and
// jobs.Tables. Its methods may be called by several goroutines.
type DB struct {
	path   string
	temp   string // the folder of a Memory database
	opts   Options
	log    *zap.Logger
	clock  leaseClock
	boot   string // of the kernel
	file   fileID
	writer *writer

	writing  chan struct{} // a mutex of the process's writers: the group's, and a closure's
	closures atomic.Int64  // transactions with foreign code that wait or run
	alone    *sql.DB       // one connection, for transactions with foreign code
	waits    waits         // what is known of waits for other processes' write lock

	look struct { // reads of the engine's own
		sync.Mutex
		*conn
	}
	readers *sql.DB
	// shm, to ask who holds the write lock: a descriptor of our own, not the driver's,
	// whose own lock it would not see. Closing it drops the POSIX locks that this
	// process has on the file, which does no harm: the driver takes open file
	// description locks, and the guardian refuses a second library.
	shm   *os.File
	probe *seatFile // to ask who lives, and for the baton's lock; not a seat's own, which would not see that seat
	baton *baton    // the process has one: its writers take the mutex first

	seats struct { // taken here
		sync.Mutex
		all []*seat
	}

	schema atomic.Int64 // PRAGMA schema_version when the tables were last known to be ours

	failed   context.CancelCauseFunc // ends alive: nothing can be acknowledged any more
	alive    context.Context
	closing  sync.Once
	closeErr error
}

var _ interface {
	jobs.Store
	jobs.Operator
	jobs.Tables
} = (*DB)(nil)

// Close closes the store. What was not acknowledged yet gets jobs.ErrClosed.
// Seats that were not left fall free. It may be called more than once.
func (db *DB) Close() error {
	db.closing.Do(func() { db.closeErr = db.close() })
	return db.closeErr
}

func (db *DB) close() error {
	db.failed(jobs.ErrClosed)
	var errs []error
	if db.writer != nil {
		<-db.writer.done
	}
	db.seats.Lock()
	for _, s := range db.seats.all {
		errs = append(errs, s.close())
	}
	db.seats.Unlock()
	db.look.Lock()
	if db.look.conn != nil {
		errs = append(errs, db.look.close())
		db.look.conn = nil
	}
	db.look.Unlock()
	for _, pool := range []*sql.DB{db.readers, db.alone} {
		if pool != nil {
			errs = append(errs, pool.Close())
		}
	}
	// The last connection to close copies -wal back and removes it, if it can write.
	if db.writer != nil && db.writer.conn != nil {
		// Moved, and no other file has the path: who opened that one would write to
		// the same -wal.
		if _, err := os.Lstat(db.path); errors.Is(err, fs.ErrNotExist) {
			db.writer.lastCopy()
		}
		errs = append(errs, db.writer.conn.close())
	}
	if db.shm != nil {
		errs = append(errs, db.shm.Close())
	}
	if db.baton != nil {
		errs = append(errs, db.baton.close())
	}
	if db.probe != nil {
		errs = append(errs, db.probe.Close())
	}
	if db.temp != "" {
		errs = append(errs, os.RemoveAll(db.temp))
	}
	return errors.Join(errs...)
}

// Path is the database's file, links resolved.
func (db *DB) Path() string { return db.path }

// Read implements jobs.Tables.
func (db *DB) Read() *sql.DB { return db.readers }

// now is the wall clock in Unix seconds.
func (db *DB) now() float64 { return float64(jobs.SecondsOf(db.opts.Now())) }

// seconds is a duration in seconds; what is longer than some 30 years is that
// long: anybody may write such numbers.
func seconds(s float64) time.Duration {
	return time.Duration(max(-1e9, min(s, 1e9)) * float64(time.Second))
}

func wrapError(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// read runs fn on the engine's own read connection.
func (db *DB) read(fn func(*conn) error) error {
	db.look.Lock()
	defer db.look.Unlock()
	if db.look.conn == nil {
		return db.closed()
	}
	return fn(db.look.conn)
}

// browse runs fn on one of the connections for people, whose reads may take long: until
// ctx ends.
func (db *DB) browse(ctx context.Context, fn func(*conn) error) error {
	pooled, err := db.readers.Conn(ctx)
	if err != nil {
		return err
	}
	defer pooled.Close()
	err = native(pooled, func(c *conn) error {
		before := c.SetInterrupt(ctx)
		defer c.SetInterrupt(before)
		return fn(c)
	})
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ctx.Err(), err) // SQLite alone says "interrupted"
	}
	return err
}

// closed is why the store is closed: always an ErrClosed.
func (db *DB) closed() error {
	cause := context.Cause(db.alive)
	if cause == nil || errors.Is(cause, jobs.ErrClosed) {
		return jobs.ErrClosed
	}
	return fmt.Errorf("%w: %w", jobs.ErrClosed, cause)
}

// stillThere closes the store when the file was moved or replaced: what is
// written from now on, nobody would find.
func (db *DB) stillThere() error {
	if err := db.file.still(db.path); err != nil {
		db.failed(err)
		return db.closed()
	}
	return nil
}

func (db *DB) setMeta(ctx context.Context, key, value string) error {
	return db.writer.do(ctx, func(t *tx) error {
		_, err := t.exec(`INSERT INTO sync_meta (key, value) VALUES (?, ?)
			ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE value <> excluded.value`, key, value)
		return err
	})
}
