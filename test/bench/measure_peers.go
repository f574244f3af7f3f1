package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// peers are other queues under the same load, on the same disk, each after a run
// of our own. One that can't run is a line that says so.
func peers(ctx context.Context, b *bench, g *group) error {
	for _, p := range []struct {
		name  string
		jobs  int
		times float64 // the goal; 0: none
	}{{"river", b.River, 8}, {"asynq", b.Asynq, 5}, {"backlite", b.Backlite, 0}} {
		worker, err := b.work(ctx, 1, role{Kind: "worker", Slots: 50, Jobs: b.Jobs})
		if err != nil {
			return err
		}
		theirs, version, err := b.peer(ctx, p.name, p.jobs)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			g.add(notMeasured(p.name, err.Error()))
			continue
		}
		times := number("worker / "+p.name, worker[0].rate()/theirs, "x")
		if p.times > 0 {
			times = times.atLeast(p.times)
		}
		g.add(number(p.name+" "+version, theirs, "jobs/s"), times)
	}
	return nil
}

// peer runs another queue.
func (b *bench) peer(ctx context.Context, name string, jobs int) (rate float64, version string, err error) {
	program := filepath.Join(b.dir, "peers")
	if err := build(ctx, "test/bench/peers", program, "."); err != nil {
		return 0, "", err
	}
	var stderr strings.Builder
	cmd := exec.CommandContext(ctx, program, name, "--jobs", strconv.Itoa(jobs), "--slots", "50", "--dir", b.dir)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")
		return 0, "", fmt.Errorf("%w: %s", err, lines[len(lines)-1])
	}
	var result struct {
		Version string  `json:"version"`
		Rate    float64 `json:"jobs_per_second"`
	}
	err = json.Unmarshal(out, &result)
	return result.Rate, result.Version, err
}
