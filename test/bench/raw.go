package main

import (
	"fmt"
	"time"

	"github.com/ncruces/go-sqlite3"
)

// openRaw opens a database with the driver alone, as durable as Shoal is.
func openRaw(db string) (*sqlite3.Conn, error) {
	conn, err := sqlite3.Open("file:" + db)
	if err != nil {
		return nil, err
	}
	err = conn.BusyTimeout(time.Minute)
	if err == nil {
		err = conn.Exec(`PRAGMA synchronous = FULL`)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// step runs a prepared statement.
func step(s *sqlite3.Stmt, row func(*sqlite3.Stmt), args ...any) error {
	for i, arg := range args {
		var err error
		switch v := arg.(type) {
		case int64:
			err = s.BindInt64(i+1, v)
		case float64:
			err = s.BindFloat(i+1, v)
		case string:
			err = s.BindText(i+1, v)
		default:
			err = fmt.Errorf("a %T can't be bound here", arg)
		}
		if err != nil {
			return err
		}
	}
	for s.Step() {
		if row != nil {
			row(s)
		}
	}
	return s.Reset()
}

// numbers are those in the one row of a query.
func numbers(conn *sqlite3.Conn, query string) (list []int64, err error) {
	s, _, err := conn.Prepare(query)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if s.Step() {
		for i := range s.ColumnCount() {
			list = append(list, s.ColumnInt64(i))
		}
	}
	return list, s.Err()
}

// count is what a query counts, asked of the file itself and not of Shoal.
func count(db, query string) (int, error) {
	conn, err := openRaw(db)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	n, err := numbers(conn, query)
	if err != nil {
		return 0, err
	}
	return int(n[0]), nil
}

// once returns an error unless so many jobs were completed, each at its first
// attempt, and none is running.
func once(db string, jobs int) error {
	done, err := count(db, `SELECT count(*) FROM sync_jobs WHERE status = 'completed' AND attempts = 1`)
	if err != nil {
		return err
	}
	other, err := count(db, `SELECT count(*) FROM sync_jobs WHERE status NOT IN ('completed', 'pending') OR attempts > 1`)
	if err != nil {
		return err
	}
	if done != jobs || other != 0 {
		return fmt.Errorf("%s has %d jobs completed at their first attempt, and %d running, failed or tried again: want %d and 0", db, done, other, jobs)
	}
	return nil
}

// insertJob adds a job with the columns that Shoal's own statement names.
const insertJob = `INSERT INTO sync_jobs (job_type, payload, created_at, priority, queue, run_at, due, max_attempts, timeout, meta)
	VALUES (?1, ?2, ?3, 0, 'default', ?3, 1, NULL, NULL, NULL)`

// inserts is the limit of enqueueing in batches: 1,000 rows a transaction.
func inserts(r role, s stage, conn *sqlite3.Conn) (report, error) {
	insert, _, err := conn.PrepareFlags(insertJob, sqlite3.PREPARE_PERSISTENT)
	if err != nil {
		return report{}, err
	}
	defer insert.Close()
	if err := s.begin(); err != nil {
		return report{}, err
	}
	out := report{Begin: time.Now()}
	for out.Jobs < r.Jobs {
		err := conn.Exec(`BEGIN IMMEDIATE`)
		now := float64(time.Now().UnixMicro()) / 1e6
		for range batch {
			if err == nil {
				err = step(insert, nil, noop, "0", now)
			}
		}
		if err == nil {
			err = conn.Exec(`COMMIT`)
		}
		if err != nil {
			return report{}, err
		}
		out.Jobs += batch
	}
	out.End = time.Now()
	return out, nil
}

// foreigner is another program: its inserts name a type and a payload, each is a
// transaction of its own, and nobody else is told.
func foreigner(r role, s stage, conn *sqlite3.Conn) (report, error) {
	return produce(r, s, func() (int64, error) {
		err := conn.Exec(`INSERT INTO sync_jobs (job_type, payload) VALUES ('` + noop + `', '0')`)
		return conn.LastInsertRowID(), err
	})
}
