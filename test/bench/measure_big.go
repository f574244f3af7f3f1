package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

// big is how a worker fares in a file that is full of other jobs, beside one that
// has only its own.
func big(ctx context.Context, b *bench, g *group) error {
	ours := line{Name: "Shoal"}
	var rates [3][]float64
	var waits [3][]float64
	finished := []int{0, b.Finished / 10, b.Finished}
	var files [3]string
	for i, n := range finished {
		files[i] = filepath.Join(b.dir, fmt.Sprintf("big%d.db", i))
		if n == 0 {
			continue
		}
		if err := fill(ctx, files[i], 0); err != nil {
			return err
		}
		// As many at least as all rounds work off, and what they claim beyond that.
		if err := raw(files[i], backlogSQL(max(b.Backlog*n/b.Finished, b.Rounds*(b.BigJobs+100)))...); err != nil {
			return err
		}
		if n == b.Finished {
			t, err := statsTime(ctx, files[i], b.Rounds)
			if err != nil {
				return err
			}
			g.add(median(fmt.Sprintf("stats, %s pending", short(3*b.Backlog)), t, "ms").atMost(50))
		}
		if err := raw(files[i], finishedSQL(n)); err != nil {
			return err
		}
	}
	t, err := statsTime(ctx, files[2], b.Rounds)
	if err != nil {
		return err
	}
	g.add(median(fmt.Sprintf("stats, and %s finished", short(b.Finished)), t, "ms").atMost(1000))

	var longest time.Duration
	for round := range b.Rounds {
		for i, n := range finished {
			worked := func(db string) error {
				before, err := count(db, `SELECT count(*) FROM sync_jobs WHERE status = 'completed'`)
				if err != nil {
					return err
				}
				r, err := alone(ctx, role{Kind: "worker", DB: db, Slots: 50, Jobs: b.BigJobs})
				if err != nil {
					return err
				}
				rates[i] = append(rates[i], r.rate())
				waits[i] = append(waits[i], float64(r.Claims.ValueAtQuantile(99))/1e3)
				return once(db, before+r.Jobs)
			}
			if n == 0 {
				err = b.with(ctx, b.BigJobs, worked)
			} else {
				var held time.Duration
				held, err = holding(files[i], func() error { return worked(files[i]) })
				longest = max(longest, held)
			}
			if err != nil {
				return fmt.Errorf("round %d, %d finished: %w", round+1, n, err)
			}
		}
	}
	for i, n := range finished {
		g.add(median(fmt.Sprintf("throughput beside %s finished", short(n)), rates[i], "jobs/s"))
		ours.Points = append(ours.Points, [2]float64{float64(i), middle(rates[i])})
		ours.Labels = append(ours.Labels, short(n))
	}
	g.add(ratio("throughput, empty / big file", rates[0], rates[2]).atMost(1.25),
		median("claim p99, empty file", waits[0], "ms"), median("claim p99, big file", waits[2], "ms"),
		ratio("claim p99, big / empty file", waits[2], waits[0]).atMost(1.25),
		heldFor("longest hold of the write lock", longest))
	g.Picture = &picture{
		Title: "No-op jobs a second over the jobs that are finished in the file", X: "finished jobs", Y: "jobs/s", Lines: []line{ours},
	}
	if err := b.prune(ctx, files[2], g); err != nil {
		return err
	}
	return b.comeDue(ctx, g)
}

// heldFor is a hold of the write lock beside its goal.
func heldFor(name string, longest time.Duration) figure {
	if !seesLocks {
		return notMeasured(name, "locks can be looked at on Linux alone")
	}
	return number(name, float64(longest.Microseconds())/1e3, "ms").atMost(50)
}

// prune is how long a prune keeps others from writing.
func (b *bench) prune(ctx context.Context, db string, g *group) error {
	q, err := store.Open(ctx, db)
	if err != nil {
		return err
	}
	defer q.Close()
	most := min(b.Prune, b.Finished)
	var came jobs.Changed
	var took time.Duration
	longest, err := holding(db, func() (err error) {
		begin := time.Now()
		// finishedSQL has the nth end in second n.
		came, err = q.Change(ctx, jobs.Filter{EndedBefore: time.Unix(int64(most)+1, 0)}, jobs.Change{Verb: jobs.Delete})
		took = time.Since(begin)
		return err
	})
	if err != nil {
		return err
	}
	if came.Count != int64(most) {
		return fmt.Errorf("pruned %d jobs in place of %d", came.Count, most)
	}
	g.add(number(fmt.Sprintf("prune of %s", short(most)), float64(most)/took.Seconds(), "jobs/s"),
		heldFor("its longest hold of the write lock", longest))
	return nil
}

// comeDue is how a worker fares where a backlog of delayed jobs has come due at once, in
// another order than they were enqueued.
func (b *bench) comeDue(ctx context.Context, g *group) error {
	n := 2 * b.Backlog
	return b.with(ctx, 0, func(db string) error {
		if err := raw(db, pending(n, noop, 0, "1000 + n * 7919 % 1000003", 0)); err != nil {
			return err
		}
		var r report
		longest, err := holding(db, func() (err error) {
			r, err = alone(ctx, role{Kind: "worker", DB: db, Slots: 50, Jobs: b.BigJobs})
			return err
		})
		if err != nil {
			return err
		}
		g.add(number(fmt.Sprintf("throughput as %s come due at once", short(n)), r.rate(), "jobs/s"),
			heldFor("longest hold of the write lock then", longest))
		return once(db, r.Jobs)
	})
}

// statsTime is what the numbers of enqueuer stats take.
func statsTime(ctx context.Context, db string, rounds int) (runs []float64, err error) {
	q, err := store.Open(ctx, db)
	if err != nil {
		return nil, err
	}
	defer q.Close()
	for range rounds {
		begin := time.Now()
		if _, err := q.Stats(ctx); err != nil {
			return nil, err
		}
		runs = append(runs, float64(time.Since(begin).Microseconds())/1e3)
	}
	return runs, nil
}

// raw fills a file with the driver alone, as fast as can be: it is made, not
// measured. But its pages are on the disk when it returns, or a checkpoint would
// have to bring them there while others are measured.
func raw(db string, statements ...string) error {
	conn, err := sqlite3.Open("file:" + db)
	if err != nil {
		return err
	}
	defer conn.Close()
	err = conn.Exec(`PRAGMA synchronous = OFF; PRAGMA cache_size = -200000; BEGIN IMMEDIATE`)
	for _, s := range append(statements, `COMMIT`, `PRAGMA wal_checkpoint(TRUNCATE)`) {
		if err == nil {
			err = conn.Exec(s)
		}
	}
	if err != nil {
		return err
	}
	f, err := os.OpenFile(db, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// finishedSQL adds n completed jobs, the nth of which ended in second n of 1970.
func finishedSQL(n int) string {
	return fmt.Sprintf(`WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < %d)
		INSERT INTO sync_jobs (job_type, payload, status, attempts, created_at, started_at, completed_at, run_at, max_attempts, lease_owner, lease_token)
		SELECT '`+noop+`', '0', 'completed', 1, n, n, n, n, 3, 1, 1 FROM n`, n)
}

// backlogSQL adds n jobs that wait for the worker, n that have the highest
// priority and are far in the future, and n of the highest priority that it does
// not handle.
func backlogSQL(n int) []string {
	return []string{pending(n, noop, 0, "1000", 1), pending(n, noop, 9, "unixepoch() + 86400000 + n", 0), pending(n, "Foreign", 9, "1000", 1)}
}

// pending adds n jobs that nobody has claimed yet.
func pending(n int, jobType string, priority int, runAt string, due int) string {
	return fmt.Sprintf(`WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < %d)
		INSERT INTO sync_jobs (job_type, payload, priority, run_at, due)
		SELECT '%s', '0', %d, %s, %d FROM n`, n, jobType, priority, runAt, due)
}

// short is a number with k or M.
func short(n int) string {
	switch {
	case n >= 1_000_000 && n%100_000 == 0:
		return fmt.Sprintf("%gM", float64(n)/1e6)
	case n >= 1000 && n%100 == 0:
		return fmt.Sprintf("%gk", float64(n)/1e3)
	}
	return fmt.Sprint(n)
}
