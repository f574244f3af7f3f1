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
// them all after its commit (writer.go). Transactions with foreign code in them
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
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/driver"
	"go.uber.org/zap"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// Memory is the path of a private, temporary database that ends with its store.
const Memory = ":memory:"

// memoryMaxPending bounds a Memory database: it is a buffer, not a place to keep things.
const memoryMaxPending = 1000

// Options configure a store; the zero value of each is the default.
type Options struct {
	// MaxPending is kept in the file: an Enqueue by anyone that would leave
	// more than so many jobs pending fails with jobs.ErrQueueFull. It does not
	// bind follow-ups, ticks and plain SQL. 0: as it is in the file, and none
	// (1,000 for Memory) in a new one. Keeping to it costs each commit of
	// enqueues a count of the pending jobs.
	MaxPending int
	// Existing refuses to make a database that is not there.
	Existing bool
	// Now is the wall clock: time.Now.
	Now func() time.Time
	// Logger gets warnings: nowhere.
	Logger *zap.Logger
}

// DB is an open database. It implements jobs.Store, jobs.Inspector and
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

	writing chan struct{} // a mutex of the process's writers: the group's, and a closure's
	alone   *sql.DB       // one connection, for transactions with foreign code

	look struct { // reads of the engine's own
		sync.Mutex
		*conn
	}
	readers *sql.DB
	shm     *os.File  // to ask who holds the write lock
	probe   *seatFile // to ask who lives

	seats struct { // taken here
		sync.Mutex
		all []*seat
	}

	failed   context.CancelCauseFunc // ends alive: nothing can be acknowledged any more
	alive    context.Context
	closing  sync.Once
	closeErr error
}

var _ interface {
	jobs.Store
	jobs.Inspector
	jobs.Tables
} = (*DB)(nil)

// Open opens the database at path, making it if need be, and brings its schema
// up to date; many processes may do so at once. What it refuses, it refuses
// with one line that says why and what to do.
func Open(ctx context.Context, path string, opts Options) (_ *DB, err error) {
	db := &DB{opts: opts, log: opts.Logger, writing: make(chan struct{}, 1)}
	if db.log == nil {
		db.log = zap.NewNop()
	}
	if db.opts.Now == nil {
		db.opts.Now = time.Now
	}
	db.alive, db.failed = context.WithCancelCause(context.Background())
	defer func() {
		if err != nil {
			_ = db.Close()
		}
	}()
	if opts.MaxPending < 0 {
		return nil, fmt.Errorf("max pending is %d: at least 1", opts.MaxPending)
	}
	if path == Memory {
		if db.temp, err = os.MkdirTemp("", "shoal-"); err != nil {
			return nil, fmt.Errorf("open %s: %w", path, err)
		}
		path = filepath.Join(db.temp, "shoal.db")
		if opts.MaxPending == 0 {
			db.opts.MaxPending = memoryMaxPending
		}
	}
	if db.path, err = resolve(path); err != nil {
		return nil, err
	}
	if db.clock, err = newLeaseClock(); err != nil {
		return nil, err
	}
	if db.boot, err = bootID(); err != nil {
		return nil, err
	}
	if err := db.prepareFiles(); err != nil {
		return nil, err
	}
	if err := db.connect(ctx); err != nil {
		return nil, db.explain(err)
	}
	// The connections keep -wal from being removed, so one sync makes its entry
	// in the folder durable for good.
	if err := syncDir(filepath.Dir(db.path)); err != nil {
		return nil, err
	}
	if db.opts.MaxPending > 0 {
		if err := db.setMeta(ctx, "max_pending", strconv.Itoa(db.opts.MaxPending)); err != nil {
			return nil, err
		}
	}
	return db, nil
}

// prepareFiles lets the guardian look, and makes the files that are not there,
// as private as the database (the driver would ask the umask).
func (db *DB) prepareFiles() error {
	warnings, err := inspect(db.path)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		db.log.Warn(w)
	}
	if _, err := os.Stat(db.path); errors.Is(err, os.ErrNotExist) && db.opts.Existing {
		return refuse("%s is not there: start a worker or enqueue a job first, or name another with --db", db.path)
	}
	if err := db.ownFiles(); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(db.path)); err != nil {
		return err
	}
	db.file, err = identify(db.path)
	return err
}

// ownFiles makes the files that are not there, as private as the database, and
// sees that the others are: the driver asks the umask instead.
func (db *DB) ownFiles() error {
	suffixes := []string{"", "-workers"}
	if walMode(db.path) {
		suffixes = append(suffixes, "-wal", "-shm")
	}
	for _, suffix := range suffixes {
		f, err := openOrCreate(db.path+suffix, db.path)
		if err == nil {
			err = errors.Join(takeAfter(f, db.path), f.Close())
		}
		if err != nil {
			return refuse("%w: name another place with --db", err)
		}
	}
	return nil
}

// walMode says whether the database is in WAL mode, by its header
// (https://sqlite.org/fileformat.html, 1.3). Where it is not, a -wal file beside
// it would have the driver skip the locks of the mode that it is in.
func walMode(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var header [20]byte
	_, err = f.ReadAt(header[:], 0)
	return err == nil && header[18] == 2 && header[19] == 2
}

// openPatience is how long an Open waits for the locks of others.
const openPatience = 15 * time.Second

// connect opens the connections and migrates.
func (db *DB) connect(ctx context.Context) (err error) {
	first, err := newConn(db.path, patience(openPatience, func() bool { return ctx.Err() == nil }), false)
	if err != nil {
		return err
	}
	// It stays open until the others are: the last one to close removes -wal.
	defer func() { err = errors.Join(err, first.close()) }()
	if err := errors.Join(setWAL(ctx, first), migrate(first, db.path)); err != nil {
		return fmt.Errorf("open %s: %w", db.path, err)
	}
	if db.writer, err = newWriter(db); err != nil {
		return err
	}
	if db.look.conn, err = newConn(db.path, patience(openPatience, nil), true); err != nil {
		return err
	}
	db.alone, err = driver.Open(uri(db.path, "mode=rw&_txlock=immediate"), func(c *sqlite3.Conn) error {
		return prepareConn(c, patience(0, nil)) // its callers' contexts end the wait
	})
	if err != nil {
		return err
	}
	db.alone.SetMaxOpenConns(1)
	db.readers, err = driver.Open(uri(db.path, "mode=ro"), func(c *sqlite3.Conn) error {
		return prepareConn(c, patience(openPatience, nil))
	})
	if err != nil {
		return err
	}
	db.readers.SetMaxOpenConns(4)
	if err := db.readers.PingContext(ctx); err != nil {
		return err
	}
	if db.shm, err = os.Open(db.path + "-shm"); err != nil {
		return err
	}
	if db.probe, err = openSeatFile(db.path); err != nil {
		return err
	}
	return db.ownFiles() // SQLite has made -wal anew if the database was empty
}

// setWAL turns to WAL mode. On a fresh file, that many open at once, SQLite may
// say BUSY without having asked the busy handler: whoever wins does it for all.
func setWAL(ctx context.Context, c *conn) error {
	ctx, cancel := context.WithTimeout(ctx, openPatience)
	defer cancel()
	for {
		err := c.Exec(`PRAGMA journal_mode = WAL`)
		if !errors.Is(err, sqlite3.BUSY) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("another program keeps it locked: %w", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

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
		errs = append(errs, db.writer.conn.close())
	}
	if db.shm != nil {
		errs = append(errs, db.shm.Close())
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

// read runs fn on the engine's own read connection.
func (db *DB) read(fn func(*conn) error) error {
	db.look.Lock()
	defer db.look.Unlock()
	if db.look.conn == nil {
		return db.closed()
	}
	return fn(db.look.conn)
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

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}
