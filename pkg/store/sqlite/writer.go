package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ncruces/go-sqlite3"
	"go.uber.org/zap"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// writer is the one goroutine of a process that writes: group commit.
//
//	op ─┐
//	op ─┼─► waiting ──BEGIN IMMEDIATE──► taken ──COMMIT──► answered
//	op ─┘   (can be abandoned)           (what came meanwhile waits for the next group)
//
// Operations are taken only once the write lock is held, so that those that
// came while others held it share the commit, and a caller whose context ends
// before that has certainly written nothing.
type writer struct {
	db   *DB
	conn *conn
	tx   *tx

	wrote time.Time // the last group

	schema int64 // PRAGMA schema_version when the triggers were last chosen

	walPages       int // in use, after the last commit
	checkpointing  bool
	nextCheckpoint time.Time
	wal            walBound

	mu      sync.Mutex
	waiting []*op
	wake    chan struct{}
	done    chan struct{} // the goroutine has ended
}

// op is one caller's operation. run may be called more than once: each time in
// a new transaction, the one before having been rolled back or, where tx.again
// is set, being in doubt.
type op struct {
	run   func(*tx) error
	err   error // a refusal's, until it is answered
	done  chan struct{}
	doubt chan struct{} // closed when a commit failed that may have happened: finding out can take long
}

// refusal is the error of an operation that has written nothing and leaves the
// transaction as good as it was: it is the caller's, and costs the others of the
// group nothing. Any other error has them run again without it.
type refusal struct{ error }

// tx is what an operation works in: one write transaction, with one time.
type tx struct {
	*conn
	now   float64 // wall clock, Unix seconds
	mono  int64   // lease clock, ms
	again bool    // a commit of this operation failed, and may have happened
	room  *room   // for pending jobs; nil until somebody asks
	// What changes in sync_counts; nil where triggers keep it.
	counts map[arm]counted

	promoted time.Time // when the last bite was
}

func newWriter(db *DB) (*writer, error) {
	w := &writer{db: db, wake: make(chan struct{}, 1), done: make(chan struct{})}
	if err := w.connect(); err != nil {
		return nil, err
	}
	go w.loop()
	return w, nil
}

// connect opens the write connection, or replaces it after an error that leaves
// its state in doubt.
func (w *writer) connect() error {
	if w.conn != nil {
		if err := w.conn.close(); err != nil {
			w.db.log.Warn("close the write connection", zap.Error(err))
		}
		w.conn = nil
	}
	// To open it is worth a wait, whoever waits for it.
	c, err := newConn(w.db.path, patience(openPatience, func() bool { return w.db.alive.Err() == nil }), false)
	if err != nil {
		return err
	}
	wait := w.db.patience(w.wanted)
	err = c.BusyHandler(func(ctx context.Context, count int) bool {
		return !w.checkpointing && wait(ctx, count) // a checkpoint holds the lock that everybody waits for
	})
	if err != nil {
		return errors.Join(err, c.close())
	}
	// In place of SQLite's own hook, which checkpoints inside the commit.
	c.WALHook(func(_ *sqlite3.Conn, _ string, pages int) error { w.walPages = pages; return nil })
	w.conn, w.tx, w.schema = c, &tx{conn: c}, 0
	return nil
}

// do has an operation carried out in the next group and returns its error. When
// ctx ends first, it returns ctx's error for an operation that was not begun,
// and ErrUnknown for one whose commit is in doubt.
func (w *writer) do(ctx context.Context, run func(*tx) error) error {
	o := &op{run: run, done: make(chan struct{}), doubt: make(chan struct{})}
	if err := w.add(ctx, o); err != nil {
		return err
	}
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
	}
	if w.abandon(o) {
		return ctx.Err()
	}
	select {
	case <-o.done: // its end is near, and must be known
		return o.err
	case <-o.doubt:
		return fmt.Errorf("%w: %w", jobs.ErrUnknown, ctx.Err())
	}
}

func (w *writer) add(ctx context.Context, o *op) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if w.db.alive.Err() != nil {
		return w.db.closed()
	}
	w.waiting = append(w.waiting, o)
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return nil
}

func (w *writer) abandon(o *op) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.Index(w.waiting, o)
	if i < 0 {
		return false
	}
	w.waiting = slices.Delete(w.waiting, i, i+1)
	return true
}

func (w *writer) wanted() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.waiting) > 0
}

func (w *writer) take() []*op {
	w.mu.Lock()
	defer w.mu.Unlock()
	ops := w.waiting
	w.waiting = nil
	return ops
}

// loop writes groups until the store is closed, and then refuses what waits.
func (w *writer) loop() {
	defer close(w.done)
	look := time.NewTimer(walLook)
	defer look.Stop()
	for w.db.alive.Err() == nil {
		select {
		case <-w.wake:
		case <-look.C:
			if w.bound(); w.wal.over.IsZero() {
				look.Reset(5 * walLook) // an idle process is to sleep
			} else {
				look.Reset(walLook)
			}
		case <-w.db.alive.Done():
		}
		for w.wanted() && w.db.alive.Err() == nil {
			w.spell()
		}
	}
	answer(w.take(), w.db.closed())
}

// A process that may write goes on for a spell: SQLite's pages are in its cache,
// which the next process has to read first, and to wake that takes time. Where others
// wait for their turn, one whose callers come back at once, as a busy worker's do, is
// waited for a little.
const (
	spellTime = 20 * time.Millisecond
	spellWait = time.Millisecond
)

// spell writes groups until nothing more comes, or others are to have their turn:
// also when a group has less than half of what the largest had, as what this
// process had in stock is written then, and others have more.
func (w *writer) spell() {
	w.db.writing <- struct{}{}
	defer func() { <-w.db.writing }()
	quick := w.db.baton.yield != 0 && time.Since(w.wrote) < spellWait // what comes next comes soon after it
	w.db.baton.take(func() bool { return w.db.alive.Err() == nil && w.wanted() })
	began := time.Now()
	var most int64
	for w.wanted() && w.db.alive.Err() == nil {
		rows := w.group()
		most = max(most, rows)
		w.wrote = time.Now()
		if w.wrote.Sub(began) > spellTime || 2*rows < most || w.db.closures.Load() > 0 {
			break
		}
		if quick {
			quick = w.more()
		}
	}
	w.checkpoint()
	w.db.baton.pass()
}

// more waits a little for something to write.
func (w *writer) more() bool {
	timer := time.NewTimer(spellWait)
	defer timer.Stop()
	for !w.wanted() {
		select {
		case <-w.wake: // perhaps for what was taken already
		case <-timer.C:
			return false
		}
	}
	return true
}

// group writes what waits, in one transaction, and answers it. It returns how many
// rows that has changed.
func (w *writer) group() (rows int64) {
	if err := w.begin(); err != nil {
		if errors.Is(err, sqlite3.BUSY) {
			return 0 // whoever waited has given up
		}
		w.fail(w.take(), err)
		return 0
	}
	ops := w.take()
	for len(ops) > 0 {
		before := w.conn.TotalChanges()
		bad, err := w.runAll(ops)
		if err == nil {
			rows = w.conn.TotalChanges() - before
			err = w.commit(ops)
			answer(ops, err)
			return rows
		}
		w.conn.rollback()
		if broken(err) {
			w.fail(ops, err)
			return 0
		}
		// One operation's error is its own affair: the others go on without it.
		answer(ops[bad:bad+1], err)
		ops = slices.Delete(ops, bad, bad+1)
		if err := w.begin(); err != nil {
			w.fail(ops, err)
			return 0
		}
	}
	w.conn.rollback()
	return 0
}

// begin begins a transaction, on a file whose schema is this program's.
func (w *writer) begin() error {
	if err := w.conn.begin(); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	schema, err := w.db.checkSchema(w.conn)
	if err == nil && schema != w.schema {
		err = w.chooseTriggers()
	}
	if err != nil {
		w.conn.rollback()
		return err
	}
	w.schema = schema
	return nil
}

// runAll runs the operations in the open transaction; bad is the one that failed.
func (w *writer) runAll(ops []*op) (bad int, err error) {
	w.tx.now, w.tx.mono, w.tx.room = w.db.now(), w.db.clock.Now(), nil
	clear(w.tx.counts)
	for i, o := range ops {
		err := o.run(w.tx)
		no, refused := errors.AsType[refusal](err)
		if err != nil && !refused {
			return i, err
		}
		o.err = no.error
	}
	return 0, w.tx.writeCounts()
}

// answer answers operations: with an error that they share, or else with their own.
func answer(ops []*op, err error) {
	for _, o := range ops {
		o.err = cmp.Or(err, o.err)
		close(o.done)
	}
}
