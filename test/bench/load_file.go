package main

import (
	"os"

	"github.com/ncruces/go-sqlite3"
)

// loadFile looks at the database from outside: with the driver alone, past all that
// is Shoal's. It keeps the file in use: what is beside it, -shm and -wal, stays.
type loadFile struct {
	path string
	conn *sqlite3.Conn
}

// sizes are those of the database, with what is in its -wal file alone as yet, and
// of that file, in bytes.
func (f *loadFile) sizes() (db, wal int64, err error) {
	n, err := numbers(f.conn, `SELECT page_count * page_size FROM pragma_page_count, pragma_page_size`)
	if err != nil {
		return 0, 0, err
	}
	if info, err := os.Stat(f.path + "-wal"); err == nil {
		wal = info.Size()
	}
	return n[0], wal, nil
}

// left says whether any job has not ended; each part of it is a look into an index.
func (f *loadFile) left() (bool, error) {
	n, err := numbers(f.conn, `SELECT EXISTS (SELECT 1 FROM sync_jobs WHERE status = 'pending' AND due = 1)
		OR EXISTS (SELECT 1 FROM sync_jobs WHERE status = 'pending' AND due = 0)
		OR EXISTS (SELECT 1 FROM sync_jobs WHERE status = 'running')`)
	return err == nil && n[0] == 1, err
}

// loadCensus counts the jobs in the file.
type loadCensus struct {
	All, Completed, Pending, Running, Failed int64
	// Again is how many were attempted more than once.
	Again int64
	// Unexplained is how many of the completed were attempted more often than
	// attempts of them are known to have ended otherwise.
	Unexplained int64
}

func (f *loadFile) census() (c loadCensus, err error) {
	n, err := numbers(f.conn, `SELECT count(*), count(*) FILTER (WHERE status = 'completed'), count(*) FILTER (WHERE status = 'pending'),
		count(*) FILTER (WHERE status = 'running'), count(*) FILTER (WHERE status = 'failed'),
		count(*) FILTER (WHERE attempts > 1), count(*) FILTER (WHERE status = 'completed'
			AND attempts <> 1 + (SELECT count(*) FROM sync_job_errors e WHERE e.job_id = j.id)) FROM sync_jobs j`)
	if err != nil {
		return c, err
	}
	return loadCensus{n[0], n[1], n[2], n[3], n[4], n[5], n[6]}, nil
}
