package sqlite

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store/internal/insert"
)

// Enqueue implements jobs.Store.
func (db *DB) Enqueue(ctx context.Context, batch ...jobs.New) ([]jobs.Added, error) {
	for _, n := range batch {
		if err := n.Check(); err != nil {
			return nil, fmt.Errorf("enqueue: %w", err)
		}
	}
	if len(batch) == 0 {
		return nil, ctx.Err()
	}
	var added []jobs.Added
	var at float64 // when added was made
	err := db.writer.do(ctx, func(t *tx) error {
		if t.again {
			there, err := t.enqueued(batch, added, at)
			if err != nil || there {
				return err
			}
		}
		err := t.takeRoom(len(batch))
		if err != nil {
			return err
		}
		at = t.now
		added, err = t.enqueue(batch)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("enqueue: %w", err)
	}
	return added, nil
}

// room is how many pending jobs the file allows and has, by sync_counts or, once these
// were not to be believed, by the jobs themselves. It is found out once a transaction.
type room struct {
	limit, pending int64
	exact          bool // by the jobs
}

// takeRoom refuses with ErrQueueFull where n more pending jobs would be too many.
func (t *tx) takeRoom(n int) (err error) {
	if t.room == nil {
		t.room = new(room)
		t.room.limit, err = t.number(`SELECT CAST(value AS INTEGER) FROM sync_meta WHERE key = 'max_pending'`)
		if err == nil && t.room.limit > 0 {
			t.room.pending, err = t.pending()
		}
		if err != nil {
			return err
		}
	}
	full := func() bool { return t.room.limit > 0 && t.room.pending+int64(n) > t.room.limit }
	if full() && !t.room.exact {
		// Another program's REPLACE leaves sync_counts too high. Two counts, as each has
		// its partial index.
		t.room.exact = true
		t.room.pending, err = t.number(`SELECT
			(SELECT count(*) FROM (SELECT 1 FROM sync_jobs WHERE status = 'pending' AND due = 1 LIMIT ?1)) +
			(SELECT count(*) FROM (SELECT 1 FROM sync_jobs WHERE status = 'pending' AND due = 0 LIMIT ?1))`, t.room.limit)
		if err != nil {
			return err
		}
	}
	if full() {
		return refusal{fmt.Errorf("%w: at most %d jobs may be pending here; wait, add workers, or raise --max-pending",
			jobs.ErrQueueFull, t.room.limit)}
	}
	t.room.pending += int64(n)
	return nil
}

// enqueue inserts jobs that were checked. Twins within one batch meet as
// strangers do: the later finds the earlier's row.
func (t *tx) enqueue(batch []jobs.New) ([]jobs.Added, error) {
	added := make([]jobs.Added, len(batch))
	for i, n := range batch {
		var err error
		if added[i], err = t.enqueueOne(n); err != nil {
			return nil, err
		}
		if !added[i].Existing {
			t.count(cmp.Or(n.Queue, jobs.DefaultQueue), n.Type, 1, 1)
		}
	}
	return added, nil
}

func (t *tx) enqueueOne(n jobs.New) (jobs.Added, error) {
	sql, args := insert.Statement(n, t.now)
	if n.Unique.Key == "" {
		_, err := t.exec(sql, args...)
		return jobs.Added{ID: t.LastInsertRowID()}, err
	}
	t.SetLastInsertRowID(0) // an upsert that finds a row leaves it as it is
	id, err := t.number(sql, args...)
	return jobs.Added{ID: id, Existing: t.LastInsertRowID() != id}, err
}

// enqueued proves that a batch whose commit failed was written after all: its
// rows are there, made at that time with those payloads. One transaction wrote
// them all, so that one new row speaks for the rest; where every job was there
// already, nothing but a replacement is at stake, and it is simply made again.
func (t *tx) enqueued(batch []jobs.New, added []jobs.Added, at float64) (there bool, err error) {
	i := slices.IndexFunc(added, func(a jobs.Added) bool { return !a.Existing })
	if i < 0 {
		return false, nil
	}
	return t.exists(`SELECT 1 FROM sync_jobs WHERE id = ? AND job_type = ? AND created_at = ? AND payload = ?`,
		added[i].ID, batch[i].Type, at, []byte(batch[i].Payload))
}
