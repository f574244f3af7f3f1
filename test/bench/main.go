// Command bench measures Shoal beside its limit and its peers.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

const usage = "usage: bench bare|worker PROCESSES SLOTS JOBS"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	if len(args) > 0 && args[0] == "load" {
		return load(ctx, args[1:], stdin, stdout, stderr)
	}
	if len(args) == 2 && args[0] == "role" {
		var r role
		if err := json.Unmarshal([]byte(args[1]), &r); err != nil {
			return err
		}
		return play(r, stdin, stdout)
	}
	if len(args) != 4 {
		return errors.New(usage)
	}
	var n [3]int
	for i := range n {
		var err error
		if n[i], err = strconv.Atoi(args[i+1]); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp(".", "bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	db := filepath.Join(dir, "jobs.db")
	if err := fill(ctx, db, n[2]); err != nil {
		return err
	}
	reports, err := fleet(ctx, n[0], role{Kind: args[0], DB: db, Slots: n[1]})
	if err != nil {
		return err
	}
	sum := total(reports)
	fmt.Fprintf(stdout, "%s: %d jobs, %.0f/s, %.1f a commit, %.1f us of CPU each\n", args[0], sum.Jobs, sum.rate(),
		float64(sum.Jobs)/float64(sum.Turns), float64(sum.CPU.Microseconds())/float64(sum.Jobs))
	return nil
}

// fill makes a database with n pending no-op jobs.
func fill(ctx context.Context, db string, n int) error {
	q, err := store.Open(ctx, db)
	if err != nil {
		return err
	}
	defer q.Close()
	for i := 0; i < n; i += 1000 {
		if _, err := jobs.EnqueueMany(ctx, q, noop, make([]int, min(1000, n-i))); err != nil {
			return err
		}
	}
	return nil
}
