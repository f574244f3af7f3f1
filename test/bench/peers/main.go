// Command peers runs one load through a job queue that is not Shoal, so that a
// benchmark can put both in one table: no-op jobs are put into a fresh store,
// then worked off by one process.
//
//	peers river|backlite|asynq --jobs N --slots S [--dir DIR] [--keep]
//
// The store is a new folder in DIR, whose disk is what is measured; without --dir
// in the current one. It is removed at the end, unless there is --keep.
//
// It guarantees that each library is set up as its own documentation advises,
// with the page named beside the setting; that the clock stops only when the
// store itself says that no job is left, and that all have been completed; and
// that "how" tells what a power cut may take, as libraries differ most in that.
// It says nothing of latency, nor of several processes on one store.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
)

// timeout is far beyond what a sensible load takes: a library that has lost a
// job has to end, too.
const timeout = 5 * time.Minute

const usage = "usage: peers river|backlite|asynq --jobs N --slots S [--dir DIR] [--keep]"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

// result is the line on stdout.
type result struct {
	Name             string  `json:"name"`
	Version          string  `json:"version"`
	Jobs             int     `json:"jobs"`
	Slots            int     `json:"slots"`
	EnqueuePerSecond float64 `json:"enqueue_per_second"`
	JobsPerSecond    float64 `json:"jobs_per_second"`
	How              string  `json:"how"`
}

func run(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) (err error) {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return errors.New(usage)
	}
	name := args[0]
	var module string
	var open func(context.Context, setup) (queue, error)
	switch name {
	case "river":
		module, open = "github.com/riverqueue/river", openRiver
	case "backlite":
		module, open = "github.com/mikestefanello/backlite", openBacklite
	case "asynq":
		module, open = "github.com/hibiken/asynq", openAsynq
	default:
		return fmt.Errorf("%s is no queue that this program knows; %s", name, usage)
	}
	flags := flag.NewFlagSet("peers "+name, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // what went wrong is said once, in one line
	jobs := flags.Int("jobs", 0, "")
	slots := flags.Int("slots", 0, "")
	dir := flags.String("dir", ".", "")
	keep := flags.Bool("keep", false, "")
	if err := flags.Parse(args[1:]); err != nil {
		return fmt.Errorf("%w; %s", err, usage)
	}
	if *jobs < 1 || *slots < 1 || flags.NArg() > 0 {
		return fmt.Errorf("--jobs and --slots have to be 1 or more, and nothing else may follow; %s", usage)
	}
	version, err := versionOf(module)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	store, err := os.MkdirTemp(*dir, "peers-"+name+"-")
	if err != nil {
		return fmt.Errorf("a new folder for the store: %w; name another place with --dir", err)
	}
	if !*keep {
		defer os.RemoveAll(store)
	}
	ran := newCountdown(*jobs)
	q, err := open(ctx, setup{dir: store, slots: *slots, ran: ran.one,
		log: slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer func() { err = errors.Join(err, q.close()) }()
	enqueuing, working, err := measure(ctx, q, *jobs, ran)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return json.NewEncoder(stdout).Encode(result{
		Name: name, Version: version, Jobs: *jobs, Slots: *slots, How: q.how(),
		EnqueuePerSecond: perSecond(*jobs, enqueuing),
		JobsPerSecond:    perSecond(*jobs, working),
	})
}

// versionOf is what this program was built with.
func versionOf(module string) (string, error) {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == module {
				return m.Version, nil
			}
		}
	}
	return "", fmt.Errorf("this program does not know its version of %s; build it with go build, inside its module", module)
}
