package sqlite

import (
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/ncruces/go-sqlite3"
	"go.uber.org/zap"
)

// looks are the pauses between looks at the data's version after -wal was
// written to. The event comes before the commit can be seen, and none follows.
var looks = []time.Duration{
	300 * time.Microsecond, time.Millisecond, 2 * time.Millisecond, 5 * time.Millisecond,
	10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond,
}

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

// run looks at the version a few times after each event: the last event of a
// burst gets them all. While somebody holds the write lock it goes on looking.
func (w *watcher) run() {
	var seen int64
	next := 0 // of looks, as a commit may be under way; past the end: wait for an event
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var tick <-chan time.Time
		if next < len(looks) {
			timer.Reset(looks[next])
			tick = timer.C
		}
		select {
		case <-w.stop:
			return
		case event := <-w.notify.Events:
			if event.Has(fsnotify.Remove) || event.Has(fsnotify.Rename) {
				w.again()
			}
			next = 0
			continue
		case err := <-w.notify.Errors:
			next = 0
			w.db.log.Warn("watch the file: a change may have been missed, the next poll finds it", zap.Error(err))
			continue
		case <-tick:
		}
		var version int64
		err := w.db.read(func(c *conn) (err error) { version, err = dataVersion(c); return err })
		next++
		if next == len(looks) && w.locked() {
			next--
		}
		if err != nil {
			continue // closed, or as good as: the others say so
		}
		if version != seen {
			seen = version
			select {
			case w.changes <- struct{}{}:
			default:
			}
		}
	}
}

// locked says whether somebody is in the middle of a commit, as far as is known.
func (w *watcher) locked() bool {
	locked, _, err := writeLocked(w.db.shm)
	return err == nil && locked
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
