package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

// wake is from when a job is in the file to when its handler begins, in another
// process of an idle fleet that only a commit can wake.
func wake(ctx context.Context, b *bench, g *group) error {
	picture := &picture{
		Title: "From a job's commit to its handler, in another process of an idle fleet",
		X:     "percentile", Y: "ms", LogY: true, Percentiles: true,
	}
	for _, from := range []struct {
		kind, what string
		jobs       int
		pause      time.Duration
		p50, p99   float64 // ms; 0: no goal
	}{
		{"producer", "Enqueue", b.Wakes, 25 * time.Millisecond, 1, 5},
		{"foreigner", "plain INSERT", b.Inserts, 10 * time.Millisecond, 0, 20},
	} {
		waits, beyond, err := b.wakes(ctx, role{Kind: from.kind, Jobs: from.jobs, Pause: from.pause})
		if err != nil {
			return err
		}
		p99 := number(from.what+" -> handler, p99", percentile(waits, 0.99), "ms")
		less50 := number("less the claim and its commit, p50", percentile(beyond, 0.50), "ms")
		less99 := number("less the claim and its commit, p99", percentile(beyond, 0.99), "ms")
		if from.p50 > 0 {
			// These goals are beyond what the claim's own commit takes; the other's is not.
			less50, less99 = less50.atMost(from.p50), less99.atMost(from.p99)
		} else {
			p99 = p99.atMost(from.p99)
		}
		g.add(number(from.what+" -> handler, p50", percentile(waits, 0.50), "ms"), p99,
			number(from.what+" -> handler, longest", percentile(waits, 1), "ms"), less50, less99,
			number(fmt.Sprintf("missed, of %d", from.jobs), float64(from.jobs-len(waits)), "").atMost(0))
		l := line{Name: from.what}
		for _, p := range []float64{0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1} {
			l.Points = append(l.Points, [2]float64{p, max(0.01, percentile(waits, p))})
		}
		picture.Lines = append(picture.Lines, l)
	}
	g.Picture = picture
	return nil
}

// idlers are idle workers that have had time for themselves: they have a leader.
func (b *bench) idlers(ctx context.Context, n int, db string, poll time.Duration) (fleet, error) {
	f, err := startFleet(ctx, n, role{Kind: "idle", DB: db, Poll: poll})
	if err != nil {
		return nil, err
	}
	return f, pause(ctx, b.Settle)
}

// wakes has a producer wake a fleet of 8 idle workers, and returns how long the
// jobs waited, and how long without the claim and its commit, which may begin before
// the enqueue has returned, both in ms and in ascending order.
func (b *bench) wakes(ctx context.Context, r role) (waits, beyond []float64, err error) {
	err = b.with(ctx, 0, func(db string) error {
		idlers, err := b.idlers(ctx, 8, db, time.Hour)
		if err != nil {
			return err
		}
		r.DB = db
		returned, err := alone(ctx, r)
		if err != nil {
			return err
		}
		if err := pause(ctx, time.Second); err != nil { // a job that has not begun by then counts as missed
			return err
		}
		began, err := idlers.finish()
		if err != nil {
			return err
		}
		for _, r := range began {
			for id, at := range r.At {
				wait := at - returned.At[id]
				waits = append(waits, float64(wait)/1e6)
				beyond = append(beyond, max(0, float64(wait-r.Took[id].Nanoseconds())/1e6))
			}
		}
		return once(db, len(waits))
	})
	if err == nil && len(waits) == 0 {
		err = fmt.Errorf("none of %d jobs woke anybody", r.Jobs)
	}
	slices.Sort(waits)
	slices.Sort(beyond)
	return waits, beyond, err
}

// idling is what workers with nothing to do cost.
func idling(ctx context.Context, b *bench, g *group) error {
	return b.with(ctx, 0, func(db string) error {
		f, err := b.idlers(ctx, 8, db, 0)
		if err != nil {
			return err
		}
		used, written, err := f.cost(db, func() error { return pause(ctx, b.Idle) })
		if err != nil {
			return err
		}
		if _, err := f.finish(); err != nil {
			return err
		}
		// A lease of 30 s is renewed each third of that.
		renewals := math.Floor(b.Idle.Seconds()/10) + 1
		g.add(number("CPU of all together, of one core", 100*used.Seconds()/b.Idle.Seconds(), "%").atMost(0.5),
			number(fmt.Sprintf("commits in %v, the leader's renewals", b.Idle), float64(written), "").atMost(renewals))
		return nil
	})
}

// herd is what one job costs many idle workers.
func herd(ctx context.Context, b *bench, g *group) error {
	return b.with(ctx, 0, func(db string) error {
		q, err := store.Open(ctx, db)
		if err != nil {
			return err
		}
		defer q.Close()
		f, err := b.idlers(ctx, b.Herd, db, 0)
		if err != nil {
			return err
		}
		const rest = 100 * time.Millisecond // what the wake-up leaves to do is done by then
		span := time.Duration(b.HerdJobs) * rest
		idle, _, err := f.cost(db, func() error { return pause(ctx, span) })
		if err != nil {
			return err
		}
		begin := time.Now()
		used, _, err := f.cost(db, func() error {
			for range b.HerdJobs {
				id, err := jobs.Enqueue(ctx, q, noop, 0)
				if err == nil {
					err = untilCompleted(ctx, q, id)
				}
				if err == nil {
					err = pause(ctx, rest)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		idle = time.Duration(float64(idle) * time.Since(begin).Seconds() / span.Seconds())
		reports, err := f.finish()
		if err != nil {
			return err
		}
		calls := 0
		for _, r := range reports {
			calls += len(r.At)
		}
		if err := once(db, b.HerdJobs); err != nil {
			return err
		}
		each := max(0, used-idle).Seconds() * 1e3 / float64(b.HerdJobs)
		g.add(number(fmt.Sprintf("handler calls for %d jobs", b.HerdJobs), float64(calls), "").atMost(float64(b.HerdJobs)),
			number(fmt.Sprintf("CPU of all %d for one job", b.Herd), each, "ms"))
		return nil
	})
}

// untilCompleted looks, which wakes nobody.
func untilCompleted(ctx context.Context, q jobs.Inspector, id int64) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		row, _, err := q.Job(ctx, id)
		if err != nil {
			return fmt.Errorf("job %d, until it is completed: %w", id, err)
		}
		if row.Status == jobs.Completed {
			return nil
		}
		_ = pause(ctx, 5*time.Millisecond) // the next look says how ctx ended
	}
}

// cost is what a fleet uses meanwhile, and how many commits the file sees.
func (f fleet) cost(db string, meanwhile func() error) (used time.Duration, written uint32, err error) {
	before, err := f.cpu()
	if err != nil {
		return 0, 0, err
	}
	first, err := commits(db)
	if err != nil {
		return 0, 0, err
	}
	if err := meanwhile(); err != nil {
		return 0, 0, err
	}
	last, err := commits(db)
	if err != nil {
		return 0, 0, err
	}
	after, err := f.cpu()
	return after - before, last - first, err
}

// commits is SQLite's own count, seen from outside: iChange of
// https://sqlite.org/walformat.html, 2.1.
func commits(db string) (uint32, error) {
	f, err := os.Open(db + "-shm")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var n [4]byte
	_, err = f.ReadAt(n[:], 8)
	return binary.NativeEndian.Uint32(n[:]), err
}
