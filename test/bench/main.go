// Command bench measures Shoal beside its limit, a bare loop on the raw driver,
// and its peers: other job queues. scripts/bench runs it.
//
// It guarantees that what is compared runs in turns on the same disk, so that a
// machine's noise is in both; that a run counts only when the file, asked with
// the raw driver, has each job completed at its first attempt; and that what was
// not measured is said so. It guarantees nothing of machines other than the one
// that its header names.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

const usageText = "usage: scripts/bench [--full] [--big N] [--out DIR] [--dir DIR] [--only NAME]…"

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
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // what went wrong is said once, in one line
	fullSize := flags.Bool("full", false, "")
	finished := flags.Int("big", 0, "")
	out := flags.String("out", "bench", "")
	dir := flags.String("dir", ".", "")
	var only []string
	flags.Func("only", "", func(name string) error {
		only = append(only, name)
		return nil
	})
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(stdout, usageText)
		return nil
	} else if err != nil {
		return fmt.Errorf("%w; %s", err, usageText)
	}
	if flags.NArg() > 0 || *finished < 0 {
		return errors.New(usageText)
	}
	if err := known(only); err != nil {
		return err
	}
	s := normal()
	if *fullSize {
		s = full()
	}
	if *finished > 0 {
		s.Finished = *finished
	}
	return whole(ctx, s, only, *dir, *out, stdout)
}

// known returns an error that names the measurements where one is asked for that
// there is not.
func known(only []string) error {
	var names []string
	for _, m := range measurements() {
		names = append(names, m.name)
	}
	for _, name := range only {
		if !slices.Contains(names, name) {
			return fmt.Errorf("there is no measurement %q: --only takes %s", name, strings.Join(names, ", "))
		}
	}
	return nil
}

// whole measures and leaves the results in out, also those that came before an
// error.
func whole(ctx context.Context, s sizes, only []string, dir, out string, stdout io.Writer) error {
	ctx, cancel := context.WithCancel(ctx) // ends processes that are left after an error
	defer cancel()
	work, err := os.MkdirTemp(dir, "bench-")
	if err != nil {
		return fmt.Errorf("a new folder for the databases: %w; name another place with --dir", err)
	}
	defer os.RemoveAll(work)
	if work, err = filepath.Abs(work); err != nil {
		return err
	}
	if out, err = filepath.Abs(out); err != nil {
		return err
	}
	m := machineOf(ctx, work)
	fmt.Fprintf(stdout, "%s\n%d cores, %s, databases on %s\n%s, SQLite %s, commit %s; medians of %d runs\n",
		m.CPU, m.Cores, m.Kernel, m.FileSystem, m.Go, m.SQLite, m.Commit, s.Rounds)
	b := &bench{sizes: s, dir: work, stdout: stdout}
	groups, err := b.measure(ctx, only)
	if err := errors.Join(err, write(out, m, groups)); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "\nnumbers and pictures: %s\n", out)
	return nil
}
