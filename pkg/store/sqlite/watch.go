package sqlite

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// The pauses between an event and the look that follows it, so that one look does
// for a burst, and between looks while somebody is writing.
const (
	firstLook = 300 * time.Microsecond
	lastLook  = 100 * time.Millisecond
)

// Looks a second, for as long as somebody commits all the time, and how many may
// come at once after a rest.
const (
	looks     = 200
	looksRest = 20
)

// watchAgain is the pause after the file could not be watched.
const watchAgain = time.Second

// watcher says when somebody, in any process and with any program, has
// committed: every commit writes the -wal file.
type watcher struct {
	db      *DB
	path    string // of the -wal file
	changes chan struct{}
	notify  *fsnotify.Watcher // nil: there is none, the workers' poll must do
	failed  atomic.Bool       // the file could not be watched again
	stop    chan struct{}
	done    sync.WaitGroup
}

func watch(db *DB) *watcher {
	w := &watcher{db: db, path: db.path + "-wal", changes: make(chan struct{}), stop: make(chan struct{})}
	notify, err := fsnotify.NewWatcher()
	if err == nil {
		err = notify.Add(w.path)
	}
	if err != nil {
		if notify != nil {
			_ = notify.Close()
		}
		db.log.Warn("can't watch the file: jobs wait for the next poll (see fs.inotify.max_user_instances)", zap.Error(err))
		return w
	}
	w.notify = notify
	w.done.Go(w.run)
	return w
}

// deaf says that commits are not seen: the file could not be watched.
func (w *watcher) deaf() bool { return w.notify == nil || w.failed.Load() }

func (w *watcher) close() {
	close(w.stop)
	w.done.Wait()
	if w.notify != nil {
		_ = w.notify.Close()
	}
}

// run looks whether a transaction was committed after -wal was written to. The
// event comes before the commit can be seen, and none follows: so it looks on until
// a look that began while nobody held the write lock, under which all of a commit
// is done.
//
// Each write to a watched file costs the writer, for each watcher. So one event ends
// the watch, and it begins anew only after a look that finds no commit. A look that
// finds one first waits until somebody receives from changes, which a busy worker
// seldom does: beside others that write, it hardly watches at all.
func (w *watcher) run() {
	var seen uint32
	budget := rate.NewLimiter(looks, looksRest)
	pause := firstLook // a commit may be under way
	timer := time.NewTimer(pause)
	defer timer.Stop()
	paid := true        // from the budget, for a look that finds a change
	var still time.Time // since when looks find the lock held and nothing committed; zero: the last one did not
	for watching := true; ; {
		select {
		case <-w.stop:
			return
		case <-w.notify.Events:
			if watching {
				watching, pause, paid = false, firstLook, true
				_ = w.notify.Remove(w.path) // an error: the file is gone, and its watch
				timer.Reset(max(pause, budget.Reserve().Delay()))
			}
			continue
		case err := <-w.notify.Errors:
			w.db.log.Warn("watch the file: a change may have been missed, a look follows", zap.Error(err))
			timer.Reset(firstLook)
			continue
		case <-timer.C:
		}
		locked := w.db.locked()
		count, err := w.db.commits()
		if err != nil {
			timer.Reset(watchAgain) // closed, or as good as: the others say so
			continue
		}
		switch {
		case !locked || count != seen:
			still = time.Time{}
		case still.IsZero():
			still = time.Now()
		case time.Since(still) > stallWarning:
			w.db.nameHolder() // also a worker that has nothing to write is to say who holds it up
		}
		switch {
		case count != seen:
			seen = count
			select {
			case w.changes <- struct{}{}:
			case <-w.stop:
				return
			}
			var wait time.Duration
			if !paid {
				wait = budget.Reserve().Delay()
			}
			paid = false
			timer.Reset(wait)
		case !watching:
			err := w.notify.Add(w.path)
			watching = err == nil
			failedBefore := w.failed.Swap(!watching)
			if watching {
				timer.Reset(0) // a commit before that brings no event
				continue
			}
			if !failedBefore {
				w.db.log.Warn("watch the file again: it is looked at each second until that succeeds", zap.Error(err))
			}
			timer.Reset(watchAgain)
		case locked:
			timer.Reset(pause)
			pause = min(2*pause, lastLook)
		}
	}
}
