package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/urfave/cli/v2"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/shoal-project/shoal/internal/command"
	"github.com/shoal-project/shoal/internal/handlers"
	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store/sqlite"
)

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	app := &cli.App{
		Usage:     "claim jobs from a home's queue and run them",
		UsageText: "worker [--home DIR] [--exec TYPE=COMMAND]… [flags]",
		Flags:     flags(),
		Action: func(c *cli.Context) error {
			cfg, err := configOf(c)
			if err != nil {
				return err
			}
			cfg.log = command.Logger(stderr, zap.InfoLevel)
			ctx, stop := untilSignal(c.Context, cfg.log)
			defer stop()
			return work(ctx, cfg, stdout)
		},
	}
	return command.Run(ctx, app, args, stdin, stdout, stderr)
}

// untilSignal ends the context at the first SIGTERM or SIGINT; a second one
// ends the process at once.
func untilSignal(ctx context.Context, log *zap.Logger) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		for got := range signals {
			if ctx.Err() != nil {
				os.Exit(128 + int(got.(syscall.Signal)))
			}
			notifyStopping()
			log.Info("stopping: running jobs may end; once more to stop at once", zap.Stringer("signal", got))
			cancel()
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(signals)
		cancel()
	}
}

// work wires a worker together and runs it until ctx ends.
func work(ctx context.Context, cfg config, stdout io.Writer) (err error) {
	cfg.home.Store.Logger = cfg.log
	home, err := command.OpenHome(ctx, cfg.home)
	if err != nil && ctx.Err() != nil {
		return nil // it was told to stop while it waited for others
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, home.Store.Close()) }()

	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	var group errgroup.Group

	local := handlers.NewHome(home.Dir, home.Store, home.EnsureDir)
	if cfg.listen != "" {
		server, ln, err := listen(ctx, local, home.Store, cfg)
		if err != nil && ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		cfg.worker.Listen = ln.Addr().String()
		group.Go(func() error {
			err := server.Serve(serving, ln)
			if err != nil {
				fail(err)
			}
			return err
		})
	}

	cfg.worker.Logger = cfg.log
	cfg.worker.Schedules = []jobs.Schedule{handlers.PingSchedule(local, cfg.pingInterval)}
	guard := handlers.NewGuard()
	defer guard.Stop()
	if len(cfg.exec) > 0 {
		cfg.worker.Guard = guard
		go func() {
			select {
			case <-guard.Done():
				fail(errors.New("the guard process has ended: nothing would end the commands of a dead worker, so this one stops"))
			case <-ctx.Done():
			}
		}()
	}
	var w *jobs.Worker
	cfg.worker.Joined = func() { notifyReady(w, home.Store, cfg.log) }
	w = jobs.NewWorker(home.Store, cfg.worker)
	handlers.Register(w, local, cfg.types...)
	err = handlers.RegisterExec(w, handlers.ExecOptions{
		Commands: cfg.exec, Home: absolute(home.Dir), DB: absolute(home.DB), Guard: guard, Logger: cfg.log,
	})
	if err != nil {
		return err
	}
	err = w.Run(ctx)
	stopServing()
	if err = errors.Join(err, group.Wait()); err != nil {
		return err
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	if cfg.worker.UntilEmpty {
		return printLeft(ctx, home.Store, stdout)
	}
	return nil
}

// absolute is a path that also holds for a command that changes its folder.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil && path != sqlite.Memory {
		return abs
	}
	return path
}

// printLeft says what else is in the queue after this worker's share is done.
func printLeft(ctx context.Context, store jobs.Inspector, stdout io.Writer) error {
	stats, err := store.Stats(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	for _, t := range stats.Types {
		_, err := fmt.Fprintf(stdout, "left: %s of queue %s: %d pending, %d running\n", command.OneLine(t.Type), command.OneLine(t.Queue), t.Pending, t.Running)
		if err != nil {
			return err
		}
	}
	return nil
}
