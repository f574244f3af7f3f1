package sqlite

import (
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/ncruces/go-sqlite3"
	"go.uber.org/zap"
)

// The pauses between an event and the look that follows it, so that one look does
// for a burst, and between looks while somebody is writing.
const (
	firstLook = 300 * time.Microsecond
	lastLook  = 100 * time.Millisecond
)

// watcher says when somebody, in any process and with any program, has
// committed: every commit writes the -wal file.
type watcher struct {
	db      *DB
	changes chan struct{}
	notify  *fsnotify.Watcher // nil: there is none, the workers' poll must do
	stop    chan struct{}
	done    sync.WaitGroup
}

func watch(db *DB) *watcher {
	w := &watcher{db: db, changes: make(chan struct{}, 1), stop: make(chan struct{})}
	notify, err := fsnotify.NewWatcher()
	if err == nil {
		err = notify.Add(db.path + "-wal")
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

func (w *watcher) close() {
	close(w.stop)
	w.done.Wait()
	if w.notify != nil {
		_ = w.notify.Close()
	}
}

// run looks at the data's version after -wal was written to. The event comes
// before the commit can be seen, and none follows: so it looks on until a look
// that began while nobody held the write lock, under which all of a commit is
// done.
func (w *watcher) run() {
	var seen int64
	pause, looking := firstLook, true // a commit may be under way
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-w.stop:
			return
		case event := <-w.notify.Events:
			if event.Has(fsnotify.Remove) || event.Has(fsnotify.Rename) {
				w.again()
			}
		case err := <-w.notify.Errors:
			w.db.log.Warn("watch the file: a change may have been missed, the next poll finds it", zap.Error(err))
		case <-timer.C:
			locked, _, err := testLock(w.db.shm, walWriteLock)
			looking = err == nil && locked
			seen = w.look(seen)
			if looking {
				timer.Reset(pause)
				pause = min(2*pause, lastLook)
			}
			continue
		}
		if pause = firstLook; !looking {
			looking = true
			timer.Reset(pause)
		}
	}
}

// look tells of a version that differs from the one that was seen last.
func (w *watcher) look(seen int64) (version int64) {
	err := w.db.read(func(c *conn) (err error) { version, err = dataVersion(c); return err })
	if err != nil {
		return seen // closed, or as good as: the others say so
	}
	if version != seen {
		select {
		case w.changes <- struct{}{}:
		default:
		}
	}
	return version
}

// again watches a -wal file that was made anew.
func (w *watcher) again() {
	if err := w.notify.Add(w.db.path + "-wal"); err != nil {
		w.db.log.Warn("watch the file again: jobs wait for the next poll", zap.Error(err))
	}
}

// dataVersion changes when another connection has committed.
func dataVersion(c *conn) (version int64, err error) {
	err = c.query(`PRAGMA data_version`, func(s *sqlite3.Stmt) error { version = s.ColumnInt64(0); return nil })
	return version, err
}
