package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/shoal-project/shoal/pkg/store"
)

// sizes say how much is measured.
type sizes struct {
	Rounds                 int // how often each of those that are compared runs, in turns
	Jobs                   int // of a run
	River, Backlite, Asynq int // jobs of a peer's run
	Processes              []int
	Enqueues, Batches      int           // jobs enqueued one a call, and in batches
	Wakes, Inserts         int           // jobs that wake an idle fleet, by Enqueue and by a plain INSERT
	Settle                 time.Duration // that an idle fleet has for itself before it is measured: it elects a leader
	Idle                   time.Duration
	Herd                   int // idle workers, of which one gets a job
	HerdJobs               int
	Finished, Backlog      int // of the big file
	BigJobs                int // worked off in it
	Prune                  int
	Starts                 int
	Import                 int // bytes
}

// normal is what takes less than ten minutes on two cores.
func normal() sizes {
	return sizes{
		Rounds: 3, Jobs: 100_000, River: 20_000, Backlite: 2_000, Asynq: 20_000, Processes: []int{1, 2, 4, 8, 16, 32},
		Enqueues: 60_000, Batches: 100_000, Wakes: 400, Inserts: 2_000, Settle: 2 * time.Second, Idle: 20 * time.Second, Herd: 32, HerdJobs: 20,
		Finished: 1_000_000, Backlog: 200_000, BigJobs: 50_000, Prune: 200_000, Starts: 10, Import: 100e6,
	}
}

// full is with the sizes that the goals name.
func full() sizes {
	s := normal()
	s.Jobs, s.Inserts = 1_000_000, 10_000
	s.Finished, s.Backlog, s.Prune, s.Import = 10_000_000, 1_000_000, 1_000_000, 1e9
	return s
}

// group is what belongs together in the table.
type group struct {
	Name    string   `json:"name"`
	Title   string   `json:"title"`
	Figures []figure `json:"figures"`
	Picture *picture `json:"picture,omitempty"`
	Seconds float64  `json:"seconds"`
}

// measurements are in the order of the table.
func measurements() []measurement {
	return []measurement{
		{"one", "1 process, 50 slots, no-op jobs", one},
		{"peers", "other queues: 1 process, 50 slots, no-op jobs", peers},
		{"fleet", "many processes, one file", many},
		{"enqueue", "enqueueing", enqueueing},
		{"wake", "an idle fleet of 8, a job arrives", wake},
		{"idle", "8 idle workers", idling},
		{"herd", "idle workers, one job arrives", herd},
		{"big", "a big file", big},
		{"start", "start, and a big import", starting},
	}
}

// measurement fills a group. Its error is that it could not be measured, or that
// a job was lost; a goal that is missed is none.
type measurement struct {
	name, title string
	run         func(context.Context, *bench, *group) error
}

// bench is a run of measurements.
type bench struct {
	sizes
	dir    string // of the databases
	stdout io.Writer
}

// measure runs those that are named, or all, and prints them as they come.
func (b *bench) measure(ctx context.Context, only []string) (groups []group, err error) {
	for _, m := range measurements() {
		if len(only) > 0 && !slices.Contains(only, m.name) {
			continue
		}
		begin := time.Now()
		g := group{Name: m.name, Title: m.title}
		err := m.run(ctx, b, &g)
		if ctx.Err() != nil {
			err = context.Cause(ctx) // whatever else went wrong, went wrong by that
		}
		if err != nil {
			return groups, fmt.Errorf("%s: %w", m.name, err)
		}
		g.Seconds = time.Since(begin).Seconds()
		fmt.Fprintf(b.stdout, "\n%s (%.0f s)\n", g.Title, g.Seconds)
		for _, f := range g.Figures {
			f.row(b.stdout)
		}
		groups = append(groups, g)
	}
	return groups, nil
}

func (g *group) add(figures ...figure) { g.Figures = append(g.Figures, figures...) }

// with calls do with a new file that has so many pending jobs.
func (b *bench) with(ctx context.Context, pending int, do func(db string) error) error {
	dir, err := os.MkdirTemp(b.dir, "run-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	db := filepath.Join(dir, "jobs.db")
	if err := fill(ctx, db, pending); err != nil {
		return err
	}
	return do(db)
}

// work has n processes work so many jobs off, in a new file, and looks whether
// each was completed once.
func (b *bench) work(ctx context.Context, n int, r role) (reports []report, err error) {
	err = b.with(ctx, r.Jobs, func(db string) error {
		r.DB = db
		f, err := startFleet(ctx, n, r)
		if err != nil {
			return err
		}
		if reports, err = f.finish(); err != nil {
			return err
		}
		return once(db, r.Jobs)
	})
	return reports, err
}

// fill makes a database with n pending no-op jobs.
func fill(ctx context.Context, db string, n int) error {
	q, err := store.Open(ctx, db)
	if err != nil {
		return err
	}
	if err := q.Close(); err != nil || n == 0 {
		return err
	}
	return raw(db, pending(n, noop, 0, "1000", 1))
}

// write leaves the raw numbers and the pictures in a folder.
func write(dir string, m machine, groups []group) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text, err := json.MarshalIndent(struct {
		Machine machine `json:"machine"`
		Groups  []group `json:"groups"`
	}{m, groups}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "bench.json"), append(text, '\n'), 0o644); err != nil {
		return err
	}
	under := fmt.Sprintf("%d cores, %s, %s, SQLite %s, %s", m.Cores, m.Kernel, m.FileSystem, m.SQLite, strings.TrimPrefix(m.Commit, "unknown"))
	for _, g := range groups {
		if g.Picture == nil {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, g.Name+".svg"), []byte(g.Picture.svg(under)), 0o644); err != nil {
			return err
		}
	}
	return nil
}
