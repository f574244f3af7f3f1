package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/term"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// loadPatience is for how long what was enqueued is still worked on after Ctrl-C.
const loadPatience = 10 * time.Second

// loadRun is a fleet under load, as its parent sees it. All of it is one goroutine's.
type loadRun struct {
	loadOptions
	file      *loadFile
	stderr    io.Writer
	events    chan loadEvent
	processes []*loadProcess
	stopping  bool      // workers are told to end
	deadline  time.Time // zero, unless somebody has interrupted it
	died      int       // workers
	loadSum
}

func (l *loadRun) interrupted() bool { return !l.deadline.IsZero() }

// run has the fleet work until all is done.
func (l *loadRun) run(ctx context.Context) error {
	for i := range l.Processes {
		if err := l.start(ctx, "worker", i); err != nil {
			return err
		}
	}
	for i := range l.Producers {
		if err := l.start(ctx, "producer", i); err != nil {
			return err
		}
	}
	err := l.until(ctx, func() (bool, error) {
		if l.interrupted() {
			return false, errors.New("interrupted before it began")
		}
		return !slices.ContainsFunc(l.processes, func(p *loadProcess) bool { return !p.ready && !p.ended }), nil
	})
	if err != nil {
		return err
	}
	if err := l.mark(); err != nil {
		return err
	}
	for _, p := range l.running("producer") {
		if _, err := fmt.Fprintln(p.stdin, "begin"); err != nil {
			return fmt.Errorf("producer %d: %w", p.Number, err)
		}
	}
	if err := l.untilEnded(ctx, "producer"); err != nil {
		return err
	}
	err = l.until(ctx, func() (bool, error) {
		left, err := l.file.left()
		return !left || l.interrupted() && time.Now().After(l.deadline), err
	})
	if err != nil {
		return err
	}
	l.stopping = true
	l.stop("worker")
	err = l.untilEnded(ctx, "worker")
	l.clearLine()
	return err
}

func (l *loadRun) untilEnded(ctx context.Context, kind string) error {
	return l.until(ctx, func() (bool, error) { return len(l.running(kind)) == 0, nil })
}

// until takes what the processes say, and looks at the file's size, until ok.
func (l *loadRun) until(ctx context.Context, ok func() (bool, error)) error {
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for {
		if yes, err := ok(); yes || err != nil {
			return err
		}
		interrupt := ctx.Done()
		if l.interrupted() {
			interrupt = nil
		}
		select {
		case e := <-l.events:
			if err := l.take(e); err != nil {
				return err
			}
		case <-look.C:
			if err := l.look(); err != nil {
				return err
			}
			l.progress()
		case <-interrupt:
			l.deadline = time.Now().Add(loadPatience)
			l.stop("producer")
		}
	}
}

// take takes what a process says. The fleet goes on without a worker: that nothing
// is lost with it is what a queue is for. A producer's end is the load's.
func (l *loadRun) take(e loadEvent) error {
	p := e.process
	if !e.ended {
		p.ready = p.ready || e.report.Ready
		l.add(p.Kind, e.report)
		return nil
	}
	p.ended = true
	switch {
	case p.Kind == "producer" && e.err != nil:
		return fmt.Errorf("producer %d: %w", p.Number, e.err)
	case p.Kind == "producer", l.stopping && e.err == nil:
		return nil
	}
	l.died++
	l.clearLine()
	fmt.Fprintf(l.stderr, "worker %d ended: %v; the others go on\n", p.Number, p.cmd.ProcessState)
	if len(l.running("worker")) == 0 && !l.stopping {
		return errors.New("no worker is left")
	}
	return nil
}

// progress rewrites its line, once a second, where somebody can see it.
func (l *loadRun) progress() {
	now := monotonic()
	if l.begin == 0 || now-l.lineAt < time.Second.Nanoseconds() || !l.onTerminal() {
		return
	}
	rate := float64(l.completed-l.lineDone) / seconds(l.lineAt, now)
	p99 := float64(l.lineTime.ValueAtQuantile(99)) / 1000
	_, _ = message.NewPrinter(language.English).Fprintf(l.stderr, "\r\x1b[K%d completed, %.0f/s, %d pending, p99 %.1f ms",
		l.completed, rate, max(0, l.enqueued-l.completed), p99)
	l.lineAt, l.lineDone = now, l.completed
	l.lineTime.Reset()
}

func (l *loadRun) clearLine() {
	if l.onTerminal() {
		fmt.Fprint(l.stderr, "\r\x1b[K")
	}
}

func (l *loadRun) onTerminal() bool {
	f, ok := l.stderr.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
