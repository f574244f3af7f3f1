//go:build linux

package torture_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// produce enqueues jobs of all kinds, at a rate, until ctx ends.
func (r role) produce(ctx context.Context, rec *recorder) error {
	rng := rand.New(rand.NewPCG(r.Seed, 1))
	tick := time.NewTicker(max(time.Second/time.Duration(r.Rate), time.Millisecond))
	defer tick.Stop()
	var calls sync.WaitGroup
	defer calls.Wait()
	var oops atomic.Pointer[error]
	room := make(chan struct{}, 32) // calls at once
	n := 0
	for ctx.Err() == nil && oops.Load() == nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
			continue
		}
		size := 1
		if rng.IntN(20) == 0 {
			size = 2 + rng.IntN(4)
		}
		var batch []jobs.New
		for range size {
			n++
			batch = append(batch, r.job(rng, fmt.Sprintf("%s %d", r.Name, n)))
		}
		room <- struct{}{}
		calls.Go(func() {
			defer func() { <-room }()
			_, err := rec.Enqueue(context.WithoutCancel(ctx), batch...)
			if err != nil && !strings.Contains(err.Error(), diskFull) { // then it goes on
				oops.Store(&err)
			}
		})
	}
	calls.Wait()
	if err := oops.Load(); err != nil {
		return *err
	}
	return nil
}

// race enqueues the one job of TestUniqueRace, when all are ready.
func (r role) race(ctx context.Context, rec *recorder) error {
	if err := os.WriteFile(filepath.Join(r.Dir, r.Name+".ready"), nil, 0o600); err != nil {
		return err
	}
	for {
		if _, err := os.Stat(filepath.Join(r.Dir, "go")); err == nil {
			break
		}
		if !pause(ctx, time.Millisecond) {
			return context.Cause(ctx)
		}
	}
	_, err := jobs.Enqueue(ctx, rec, "Work", payload{Key: "unique"}, jobs.OnQueue(r.Queue),
		jobs.UniqueKey(jobs.Unique{Key: "one", For: jobs.UniqueForever}))
	return err
}

// diskFull is what the store says of itself then, to people.
const diskFull = "the disk is full"

// job makes one of the kinds of jobs.
func (r role) job(rng *rand.Rand, key string) jobs.New {
	p := payload{Key: key, Ms: rng.IntN(400)}
	jobType, opts := "Work", []jobs.Option{jobs.OnQueue(r.Queue)}
	switch rng.IntN(20) {
	case 0, 1, 2, 3, 4:
		jobType = "Commit"
	case 5:
		jobType, p.Ms = "Exec", 0
	case 6:
		opts = append(opts, jobs.Delay(time.Duration(rng.IntN(1000))*time.Millisecond))
	case 7: // fails at first, or for good
		p.Fail, p.Ms = 1+rng.IntN(3), 0
		opts = append(opts, jobs.MaxAttempts(2))
	case 8: // what dies with its worker twice has failed
		p.Ms = 100 + rng.IntN(300)
		opts = append(opts, jobs.MaxAttempts(2))
	}
	n, err := jobs.NewJob(jobType, p, opts...)
	if err != nil {
		panic(err)
	}
	return n
}
