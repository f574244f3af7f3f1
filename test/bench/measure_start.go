package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

// starting is how soon a new process works, and what a big import takes.
func starting(ctx context.Context, b *bench, g *group) error {
	if err := b.starts(ctx, g); err != nil {
		return err
	}
	return b.imports(ctx, g)
}

// starts is from when a process is started to when its first handler is called,
// on a file that is there.
func (b *bench) starts(ctx context.Context, g *group) error {
	return b.with(ctx, 0, func(db string) error {
		var runs []float64
		for range b.Starts {
			q, err := store.Open(ctx, db)
			if err != nil {
				return err
			}
			id, err := jobs.Enqueue(ctx, q, noop, 0)
			q.Close()
			if err != nil {
				return err
			}
			begin := monotonic()
			first, err := alone(ctx, role{Kind: "first", DB: db})
			if err != nil {
				return err
			}
			runs = append(runs, float64(first.At[id]-begin)/1e6)
		}
		g.add(median("process started -> first handler", runs, "ms").atMost(50))
		return once(db, b.Starts)
	})
}

// imports is the memory of enqueuer enqueue --file.
func (b *bench) imports(ctx context.Context, g *group) error {
	program := filepath.Join(b.dir, "enqueuer")
	if err := build(ctx, ".", program, "./cmd/enqueuer"); err != nil {
		return err
	}
	home := filepath.Join(b.dir, "import")
	file := filepath.Join(b.dir, "jobs.ndjson")
	defer os.RemoveAll(home)
	defer os.Remove(file)
	lines, err := writeJobs(file, b.Import)
	if err != nil {
		return err
	}
	begin := time.Now()
	cmd := exec.CommandContext(ctx, program, "--home", home, "enqueue", "--file", file)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	peak, err := waitForPeak(cmd)
	if err != nil {
		return fmt.Errorf("enqueuer enqueue --file: %w: %s", err, stderr.String())
	}
	took := time.Since(begin)
	there, err := count(filepath.Join(home, "shoal.db"), `SELECT count(*) FROM sync_jobs WHERE status = 'pending'`)
	if err != nil {
		return err
	}
	if there != lines {
		return fmt.Errorf("%d of %d jobs of the file are there", there, lines)
	}
	g.add(memory(fmt.Sprintf("enqueue --file of %d MB, memory", b.Import/1e6), peak).atMost(100),
		number("its jobs", float64(lines)/took.Seconds(), "jobs/s"))
	return nil
}

// waitForPeak waits for a process's end and returns the most memory that it had.
func waitForPeak(cmd *exec.Cmd) (peak int64, err error) {
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			peak = max(peak, memoryOf(cmd.Process.Pid, "VmHWM"))
		case err := <-ended:
			return peak, err
		}
	}
}

// writeJobs writes a file of jobs of about 1 KB each.
func writeJobs(path string, bytes int) (lines int, err error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	filler := strings.Repeat("x", 950)
	for written := 0; written < bytes; lines++ {
		n, err := fmt.Fprintf(w, `{"job_type": "Noop", "payload": {"n": %d, "filler": "%s"}}`+"\n", lines, filler)
		if err != nil {
			return 0, err
		}
		written += n
	}
	return lines, w.Flush()
}
