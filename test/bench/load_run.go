package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
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

// run has the fleet work until all is done.
func (l *loadRun) run(ctx context.Context) error {
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	until := func(ok func() (bool, error)) error { return l.until(ctx, look.C, ok) }

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
	if err := until(func() (bool, error) { return l.allReady(), l.interrupted() }); err != nil {
		return err
	}
	if err := l.mark(l.file); err != nil {
		return err
	}
	for p := range l.running("producer") {
		if _, err := fmt.Fprintln(p.stdin, "begin"); err != nil {
			return fmt.Errorf("producer %d: %w", p.Number, err)
		}
	}
	if err := until(func() (bool, error) { return l.count("producer") == 0, nil }); err != nil {
		return err
	}
	err := until(func() (bool, error) {
		left, err := l.file.left()
		return !left || !l.deadline.IsZero() && time.Now().After(l.deadline), err
	})
	if err != nil {
		return err
	}
	l.stopping = true
	l.stop("worker")
	err = until(func() (bool, error) { return l.count("worker") == 0, nil })
	l.clearLine()
	return err
}

// until takes what the processes say, and looks at the file's size, until ok.
func (l *loadRun) until(ctx context.Context, look <-chan time.Time, ok func() (bool, error)) error {
	for {
		if yes, err := ok(); yes || err != nil {
			return err
		}
		interrupt := ctx.Done()
		if !l.deadline.IsZero() {
			interrupt = nil
		}
		select {
		case e := <-l.events:
			if err := l.take(e); err != nil {
				return err
			}
		case <-look:
			if err := l.look(l.file); err != nil {
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
	p := e.loadProcess
	switch {
	case !e.ended:
		p.ready = p.ready || e.report.Ready
		l.add(p.Kind, e.report, l.Duration)
		return nil
	case p.Kind == "producer" && e.err != nil:
		p.ended = true
		return fmt.Errorf("producer %d: %w", p.Number, e.err)
	}
	p.ended = true
	if p.Kind == "producer" || l.stopping && e.err == nil {
		return nil
	}
	l.died++
	l.clearLine()
	fmt.Fprintf(l.stderr, "worker %d ended: %v; the others go on\n", p.Number, p.cmd.ProcessState)
	if l.count("worker") == 0 && !l.stopping {
		return errors.New("no worker is left")
	}
	return nil
}

func (l *loadRun) interrupted() error {
	if l.deadline.IsZero() {
		return nil
	}
	return errors.New("interrupted before it began")
}

// progress rewrites its line, once a second, where somebody can see it.
func (l *loadRun) progress() {
	if l.onTerminal() {
		if line := l.line(time.Now()); line != "" {
			fmt.Fprint(l.stderr, "\r\x1b[K"+line)
		}
	}
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
