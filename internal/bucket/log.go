package bucket

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/shoal-project/shoal/internal/blob"
	"github.com/shoal-project/shoal/pkg/jobs"
)

// Entry is a believed version, as the log has it.
type Entry struct {
	Bucket         ID
	Height         int64
	Link           cid.Cid
	Previous       cid.Cid // undefined for the genesis
	Name           string
	Author         PeerID
	AppliedAt      time.Time
	PinsCompleteAt time.Time // zero while blobs may be missing
}

// Tables is what Log reads through: jobs.Tables, or any pool of connections.
// It writes in its callers' transactions only.
type Tables interface {
	Read() *sql.DB
}

// Log is the table of believed versions, sync_bucket_log.
type Log struct {
	tables Tables
	now    func() time.Time
}

// NewLog returns the log in tables. now is the clock for applied_at and
// pins_complete_at; nil means time.Now.
func NewLog(tables Tables, now func() time.Time) *Log {
	if now == nil {
		now = time.Now
	}
	return &Log{tables: tables, now: now}
}

const entryColumns = `bucket_id, height, link, previous, name, author, applied_at, pins_complete_at`

// Head returns the version that the bucket is at, or ErrUnknownBucket. While
// forks are refused at the door the head is the highest version; with them it
// becomes a function of the set of believed versions, here and in Heads.
func (l *Log) Head(ctx context.Context, id ID) (Entry, error) {
	rows, err := l.query(ctx, `
		SELECT `+entryColumns+` FROM sync_bucket_log WHERE bucket_id = $1
		ORDER BY height DESC, link DESC LIMIT 1`, id.String())
	if err != nil {
		return Entry{}, err
	}
	if len(rows) == 0 {
		return Entry{}, fmt.Errorf("%w: %s", ErrUnknownBucket, id)
	}
	return rows[0], nil
}

// Heads returns the head of every bucket, by name.
func (l *Log) Heads(ctx context.Context) ([]Entry, error) {
	return l.query(ctx, `
		SELECT `+entryColumns+` FROM sync_bucket_log AS v
		WHERE NOT EXISTS (
			SELECT 1 FROM sync_bucket_log AS w WHERE w.bucket_id = v.bucket_id AND w.height > v.height)
		ORDER BY name, bucket_id`)
}

// Find returns the head of the bucket that a person named by its id or by its
// name: ErrUnknownBucket, or ErrAmbiguous with the ids that share the name.
func (l *Log) Find(ctx context.Context, nameOrID string) (Entry, error) {
	if id, err := ParseID(nameOrID); err == nil {
		return l.Head(ctx, id)
	}
	heads, err := l.Heads(ctx)
	if err != nil {
		return Entry{}, err
	}
	var found []Entry
	var ids []string
	for _, e := range heads {
		if e.Name == nameOrID {
			found, ids = append(found, e), append(ids, e.Bucket.String())
		}
	}
	switch len(found) {
	case 0:
		return Entry{}, fmt.Errorf("%w: %q", ErrUnknownBucket, nameOrID)
	case 1:
		return found[0], nil
	}
	return Entry{}, fmt.Errorf("%w: %q: name one by its id: %s", ErrAmbiguous, nameOrID, strings.Join(ids, ", "))
}

// Entries returns all versions of a bucket, oldest first; none is no error.
func (l *Log) Entries(ctx context.Context, id ID) ([]Entry, error) {
	return l.query(ctx, `
		SELECT `+entryColumns+` FROM sync_bucket_log WHERE bucket_id = $1
		ORDER BY height, link`, id.String())
}

// Contains says whether the version is in the log.
func (l *Log) Contains(ctx context.Context, id ID, link cid.Cid) (bool, error) {
	rows, err := l.query(ctx, `
		SELECT `+entryColumns+` FROM sync_bucket_log WHERE bucket_id = $1 AND link = $2`,
		id.String(), link.String())
	return len(rows) > 0, err
}

// Links returns the links of the chain that ends in to, from height from on,
// oldest first and at most limit of them. An unknown to has no links.
func (l *Log) Links(ctx context.Context, id ID, from int64, to cid.Cid, limit int) ([]cid.Cid, error) {
	rows, err := l.query(ctx, `
		WITH RECURSIVE chain AS (
			SELECT `+entryColumns+` FROM sync_bucket_log
			WHERE bucket_id = $1 AND link = $2 AND height >= $3
			UNION ALL
			SELECT v.bucket_id, v.height, v.link, v.previous, v.name, v.author, v.applied_at, v.pins_complete_at
			FROM chain JOIN sync_bucket_log AS v ON v.bucket_id = chain.bucket_id AND v.link = chain.previous
			WHERE v.height >= $3)
		SELECT `+entryColumns+` FROM chain ORDER BY height LIMIT $4`,
		id.String(), to.String(), from, limit)
	if err != nil {
		return nil, err
	}
	links := make([]cid.Cid, len(rows))
	for i, e := range rows {
		links[i] = e.Link
	}
	return links, nil
}

func (l *Log) query(ctx context.Context, query string, args ...any) ([]Entry, error) {
	rows, err := l.tables.Read().QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("bucket log: %w", err)
	}
	defer rows.Close()
	var found []Entry
	for rows.Next() {
		e, err := scanEntry(rows)
		if err != nil {
			return nil, fmt.Errorf("bucket log: %w", err)
		}
		found = append(found, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("bucket log: %w", err)
	}
	return found, nil
}

func scanEntry(rows *sql.Rows) (Entry, error) {
	var (
		e        Entry
		id, link string
		previous sql.NullString
		applied  jobs.Seconds
		complete sql.Null[jobs.Seconds] // NULL scans as 0
	)
	if err := rows.Scan(&id, &e.Height, &link, &previous, &e.Name, &e.Author, &applied, &complete); err != nil {
		return Entry{}, err
	}
	var errs [3]error
	e.Bucket, errs[0] = ParseID(id)
	e.Link, errs[1] = blob.Parse(link)
	if previous.Valid {
		e.Previous, errs[2] = blob.Parse(previous.String)
	}
	e.AppliedAt, e.PinsCompleteAt = applied.Time(), complete.V.Time()
	return e, errors.Join(errs[:]...)
}
