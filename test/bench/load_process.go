package main

import (
	"context"
	"encoding/json"
)

// loadProcess is one process of the fleet.
type loadProcess struct {
	loadRole
	child
	ready bool
	ended bool
}

// loadEvent is a process's report, or its end.
type loadEvent struct {
	process *loadProcess
	report  loadReport
	ended   bool
	err     error
}

// start starts a process, and has somebody listen to it. Ctrl-C does not end it.
func (l *loadRun) start(ctx context.Context, kind string, number int) error {
	r := loadRole{Kind: kind, Number: number, loadOptions: l.loadOptions}
	c, err := startChild(context.WithoutCancel(ctx), l.stderr, r, "load", "role")
	if err != nil {
		return err
	}
	p := &loadProcess{loadRole: r, child: c}
	l.processes = append(l.processes, p)
	go func() {
		reports := json.NewDecoder(p.stdout)
		for {
			e := loadEvent{process: p}
			if reports.Decode(&e.report) != nil { // its end, which Wait tells more of
				break
			}
			l.events <- e
		}
		l.events <- loadEvent{process: p, ended: true, err: p.cmd.Wait()}
	}()
	return nil
}

// running are the processes of a kind that have not ended.
func (l *loadRun) running(kind string) (list []*loadProcess) {
	for _, p := range l.processes {
		if p.Kind == kind && !p.ended {
			list = append(list, p)
		}
	}
	return list
}

// stop has all processes of a kind end.
func (l *loadRun) stop(kind string) {
	for _, p := range l.running(kind) {
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
	for len(l.running("worker"))+len(l.running("producer")) > 0 {
		e := <-l.events
		e.process.ended = e.ended
	}
}
