package main

import (
	"context"
	"fmt"
)

// enqueueing is one job a call, and batches beside the same rows by the raw driver.
func enqueueing(ctx context.Context, b *bench, g *group) error {
	rate := func(r role) (rate float64, err error) {
		err = b.with(ctx, 0, func(db string) error {
			r.DB = db
			done, err := alone(ctx, r)
			if err != nil {
				return err
			}
			there, err := count(db, `SELECT count(*) FROM sync_jobs WHERE status = 'pending'`)
			if err == nil && there != done.Jobs {
				err = fmt.Errorf("%d of %d jobs are there", there, done.Jobs)
			}
			rate = done.rate()
			return err
		})
		return rate, err
	}
	var single, many, raw []float64
	for range b.Rounds {
		for _, r := range []struct {
			to *[]float64
			role
		}{
			{&single, role{Kind: "enqueue", Slots: 64, Jobs: b.Enqueues}},
			{&raw, role{Kind: "insert", Jobs: b.Batches}},
			{&many, role{Kind: "batches", Jobs: b.Batches}},
		} {
			v, err := rate(r.role)
			if err != nil {
				return err
			}
			*r.to = append(*r.to, v)
		}
	}
	g.add(median("64 goroutines, one job a call", single, "jobs/s").atLeast(30_000),
		median("batches of 1,000", many, "jobs/s"), median("raw driver, 1,000 rows a transaction", raw, "jobs/s"),
		ratio("batches / raw driver", many, raw).atLeast(0.7))
	return nil
}
