package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/driver"
	"go.uber.org/zap"
)

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
	registerVFS()
	forgetOrphan(db.path)
	if err := db.connect(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("open %s: %w", path, ctx.Err()) // SQLite says "interrupted"
		}
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

// openPatience is how long an Open waits for the locks of others.
const openPatience = 15 * time.Second

// connect opens the connections and migrates.
func (db *DB) connect(ctx context.Context) (err error) {
	first, err := db.first(ctx)
	if err != nil {
		return err
	}
	// It stays open until the others are: the last one to close removes -wal.
	defer func() { err = errors.Join(err, first.close()) }()
	if db.shm, err = os.Open(db.path + "-shm"); err != nil {
		return err
	}
	if db.probe, err = openSeatFile(db.path); err != nil {
		return err
	}
	if db.baton, err = newBaton(db.probe, db.locked); err != nil {
		return fmt.Errorf("open the seats: %w", err)
	}
	if db.writer, err = newWriter(db); err != nil {
		return err
	}
	if db.look.conn, err = newConn(db.path, patience(openPatience, nil), true); err != nil {
		return err
	}
	db.alone, err = driver.Open(uri(db.path, "mode=rw&_txlock=immediate"), func(c *sqlite3.Conn) error {
		return prepareConn(c, db.patience(func() bool { return true })) // its callers' contexts end the wait
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
	return db.ownFiles() // SQLite has made -wal anew if the database was empty
}

// first opens a connection and prepares the database. While others open a
// fresh file, or close it, SQLite may say BUSY without having asked the busy
// handler: then all of it is tried again. Whoever wins does it for all.
func (db *DB) first(ctx context.Context) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, openPatience)
	defer cancel()
	for {
		c, err := newConn(db.path, patience(openPatience, func() bool { return ctx.Err() == nil }), false)
		if err == nil {
			if err = db.prepare(c); err == nil {
				return c, nil
			}
			err = fmt.Errorf("open %s: %w", db.path, errors.Join(err, c.close()))
		}
		if !errors.Is(err, sqlite3.BUSY) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("another program keeps it locked: %w", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// prepare turns to WAL mode and migrates. With Options.Existing another program's
// database is left as it is.
func (db *DB) prepare(c *conn) error {
	if db.opts.Existing {
		if version, err := schemaVersion(c); err != nil || version == 0 {
			return cmp.Or(err, errNoQueue)
		}
	}
	if err := c.Exec(`PRAGMA journal_mode = WAL`); err != nil {
		return err
	}
	return migrate(c, db.path)
}

var errNoQueue = errors.New("there is no queue in it: start a worker or enqueue a job first, or name another with --db")
