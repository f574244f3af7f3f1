package main

import (
	"context"
	"fmt"
	"slices"
)

// one is a single process beside its limit.
func one(ctx context.Context, b *bench, g *group) error {
	var ours, theirs []float64
	var memories [2]int64
	for range b.Rounds {
		bare, err := b.work(ctx, 1, role{Kind: "bare", Slots: 50, Jobs: b.Jobs})
		if err != nil {
			return err
		}
		worker, err := b.work(ctx, 1, role{Kind: "worker", Slots: 50, Jobs: b.Jobs})
		if err != nil {
			return err
		}
		theirs, ours = append(theirs, bare[0].rate()), append(ours, worker[0].rate())
		for i, m := range worker[0].Memory {
			memories[i] = max(memories[i], m)
		}
	}
	g.add(median("worker", ours, "jobs/s"), median("bare loop", theirs, "jobs/s"),
		ratio("worker / bare loop", ours, theirs).atLeast(0.8))
	g.add(memory(fmt.Sprintf("worker's memory after %d jobs", b.Jobs/5), memories[0]),
		memory(fmt.Sprintf("and after %d", b.Jobs), memories[1]).atMost(40))
	return nil
}

// many is throughput over processes.
func many(ctx context.Context, b *bench, g *group) error {
	ours, theirs := line{Name: "Shoal"}, line{Name: "bare loops"}
	eight := slices.Max(b.Processes)
	if slices.Contains(b.Processes, 8) {
		eight = 8
	}
	most := slices.Max(b.Processes)
	var small []float64
	claims := newTimes()
	for _, n := range b.Processes {
		rounds, jobs := 1, b.Jobs/2 // a point of the picture
		if n == eight {
			rounds, jobs = b.Rounds, b.Jobs
		}
		var worker, bare, shares []float64
		for range rounds {
			reports, err := b.work(ctx, n, role{Kind: "bare", Slots: 50, Jobs: jobs})
			if err != nil {
				return err
			}
			bare = append(bare, total(reports).rate())
			if reports, err = b.work(ctx, n, role{Kind: "worker", Slots: 50, Jobs: jobs}); err != nil {
				return err
			}
			worker = append(worker, total(reports).rate())
			shares = append(shares, least(reports))
			if n != eight {
				continue
			}
			if reports, err = b.work(ctx, most, role{Kind: "worker", Slots: 8, Jobs: b.Jobs / 2}); err != nil {
				return err
			}
			small = append(small, total(reports).rate())
			for _, r := range reports {
				claims.Merge(r.Claims.Histogram)
			}
		}
		ours.Points = append(ours.Points, [2]float64{float64(n), middle(worker)})
		theirs.Points = append(theirs.Points, [2]float64{float64(n), middle(bare)})
		if n != eight {
			continue
		}
		what := fmt.Sprintf("%d processes × 50", n)
		g.add(median(what, worker, "jobs/s"), median(fmt.Sprintf("%d bare loops × 50", n), bare, "jobs/s"),
			ratio(what+" / bare loops", worker, bare).atLeast(0.8),
			number("least share of a process / fair share", slices.Min(shares), "x").atLeast(0.5))
		few := fmt.Sprintf("%d processes × 8", most)
		g.add(median(few, small, "jobs/s"), ratio(few+" / "+what, small, worker).atLeast(0.5),
			number(few+", wait for a claim, p50", float64(claims.ValueAtQuantile(50))/1e3, "ms"),
			number(few+", wait for a claim, p99", float64(claims.ValueAtQuantile(99))/1e3, "ms"))
	}
	g.Picture = &picture{
		Title: "No-op jobs a second over processes with 50 slots each, one file",
		X:     "processes", Y: "jobs/s", LogX: true, Lines: []line{ours, theirs},
	}
	return nil
}

// least is what the process that got the fewest jobs had of its fair share. They
// were all ready before the first began.
func least(reports []report) float64 {
	fewest := reports[0].Jobs
	for _, r := range reports {
		fewest = min(fewest, r.Jobs)
	}
	return float64(fewest) * float64(len(reports)) / float64(total(reports).Jobs)
}
