package sqlite

import "github.com/ncruces/go-sqlite3"

// sync_counts says how many jobs there are, and how many of them are pending, by queue
// and type: to count a million rows takes a quarter of a second. As any program may
// write jobs, triggers keep it. They take a third of what an INSERT takes. So the writer
// has none on its connection, and its operations say what they change: that is added up,
// and written once before the commit.
//
// Where the application has triggers on our tables, they must fire for the writer's
// statements too, and then all do: ours count, and what the operations say is dropped.
//
// What the schema's triggers do besides (the history of a deleted job goes with it, and
// a job that is moved into the future is not due), the writer's operations do themselves.
// Transactions with foreign code in them, in alone.go, have all triggers.

// counted is a change of a row of sync_counts.
type counted struct{ jobs, pending int64 }

// count notes that there are so many more jobs of a queue and type, and so many more
// of them pending.
func (t *tx) count(queue, jobType string, jobs, pending int64) {
	if t.counts != nil {
		c := t.counts[arm{queue, jobType}]
		t.counts[arm{queue, jobType}] = counted{c.jobs + jobs, c.pending + pending}
	}
}

// writeCounts writes what was noted.
func (t *tx) writeCounts() error {
	for of, c := range t.counts {
		if c == (counted{}) {
			continue
		}
		if _, err := t.exec(`INSERT INTO sync_counts (queue, job_type, jobs, pending) VALUES (?, ?, ?, ?)
			ON CONFLICT (queue, job_type) DO UPDATE SET jobs = jobs + excluded.jobs, pending = pending + excluded.pending`,
			of.queue, of.jobType, c.jobs, c.pending); err != nil {
			return err
		}
		if c.jobs < 0 {
			if _, err := t.exec(`DELETE FROM sync_counts WHERE queue = ? AND job_type = ? AND jobs = 0 AND pending = 0`, of.queue, of.jobType); err != nil {
				return err
			}
		}
	}
	return nil
}

// pending is how many jobs are pending, by what is written and what was noted.
func (t *tx) pending() (n int64, err error) {
	n, err = t.number(`SELECT sum(pending) FROM sync_counts`)
	for _, c := range t.counts {
		n += c.pending
	}
	return n, err
}

// chooseTriggers switches the triggers of the writer's connection off, or on where the
// application has some, or a foreign key that may lead to some.
func (w *writer) chooseTriggers() error {
	theirs, err := w.conn.exists(`
		SELECT 1 FROM sqlite_schema WHERE type = 'trigger' AND lower(tbl_name) GLOB 'sync_*'
			AND name NOT IN ('sync_counts_added', 'sync_counts_changed', 'sync_jobs_deleted', 'sync_jobs_moved')
		UNION ALL SELECT 1 FROM sqlite_schema AS s, pragma_foreign_key_list(s.name) AS f
			WHERE s.type = 'table' AND lower(f."table") GLOB 'sync_*'`)
	if err != nil {
		return err
	}
	if _, err := w.conn.Config(sqlite3.DBCONFIG_ENABLE_TRIGGER, theirs); err != nil {
		return err
	}
	w.tx.counts = nil
	if !theirs {
		w.tx.counts = make(map[arm]counted)
	}
	return nil
}
