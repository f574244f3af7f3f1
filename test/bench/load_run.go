package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
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

// loadProcess is one process of the fleet.
type loadProcess struct {
	loadRole
	cmd   *exec.Cmd
	stdin io.WriteCloser
	ready bool
	ended bool
}

// loadEvent is a process's report, or its end.
type loadEvent struct {
	*loadProcess
	report loadReport
	ended  bool
	err    error
}

// run has the fleet work until all is done.
func (l *loadRun) run(ctx context.Context) error {
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	until := func(ok func() (bool, error)) error { return l.until(ctx, look.C, ok) }

	for i := range l.Processes {
		if err := l.start("worker", i); err != nil {
			return err
		}
	}
	for i := range l.Producers {
		if err := l.start("producer", i); err != nil {
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
			if err := l.look(l.file, l.Duration); err != nil {
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
	fmt.Fprintf(l.stderr, "worker %d ended: %v; the others go on\n", p.Number, e.err)
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

// start starts a copy of this program, and has somebody listen to it.
func (l *loadRun) start(kind string, number int) error {
	r := loadRole{Kind: kind, Number: number, loadOptions: l.loadOptions}
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	p := &loadProcess{loadRole: r, cmd: exec.Command(self, "load", "role", string(text))}
	p.cmd.Stderr = l.stderr
	p.cmd.SysProcAttr = loadSysProcAttr()
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	l.processes = append(l.processes, p)
	go func() {
		reports := json.NewDecoder(stdout)
		for {
			e := loadEvent{loadProcess: p}
			if reports.Decode(&e.report) != nil { // its end, which Wait tells more of
				break
			}
			l.events <- e
		}
		l.events <- loadEvent{loadProcess: p, ended: true, err: p.cmd.Wait()}
	}()
	return nil
}

// running are the processes of a kind that have not ended.
func (l *loadRun) running(kind string) func(yield func(*loadProcess) bool) {
	return func(yield func(*loadProcess) bool) {
		for _, p := range l.processes {
			if p.Kind == kind && !p.ended && !yield(p) {
				return
			}
		}
	}
}

func (l *loadRun) count(kind string) (n int) {
	for range l.running(kind) {
		n++
	}
	return n
}

func (l *loadRun) allReady() bool {
	for _, p := range l.processes {
		if !p.ready && !p.ended {
			return false
		}
	}
	return true
}

// stop has all processes of a kind end.
func (l *loadRun) stop(kind string) {
	for p := range l.running(kind) {
		_ = p.stdin.Close() // it may have ended by itself
	}
}

// kill ends what still runs, and waits for it: the database may be removed then.
func (l *loadRun) kill() {
	for _, p := range l.processes {
		if !p.ended {
			_ = p.cmd.Process.Kill()
		}
	}
	for l.count("worker")+l.count("producer") > 0 {
		if e := <-l.events; e.ended {
			e.loadProcess.ended = true
		}
	}
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
