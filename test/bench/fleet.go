package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// process is a copy of this program that plays a role.
type process struct {
	role
	cmd   *exec.Cmd
	stdin io.Closer
	lines *bufio.Reader
}

// start starts a copy of this program and waits until it is ready.
func start(ctx context.Context, r role) (*process, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{role: r, cmd: exec.CommandContext(ctx, self, "role", string(text))}
	p.cmd.Stderr = os.Stderr
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.stdin, p.lines = stdin, bufio.NewReader(stdout)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	if _, err := p.lines.ReadString('\n'); err != nil {
		return nil, fmt.Errorf("%s %d is not ready: %w", r.Kind, r.Number, errors.Join(err, p.cmd.Wait()))
	}
	return p, nil
}

// begin has a process begin that is ready.
func (p *process) begin() error { return p.stdin.Close() }

// end waits for a process's end and returns its report.
func (p *process) end() (r report, err error) {
	if err := json.NewDecoder(p.lines).Decode(&r); err != nil {
		return r, fmt.Errorf("%s %d: %w", p.Kind, p.Number, errors.Join(err, p.cmd.Wait()))
	}
	err = p.cmd.Wait()
	r.CPU = p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
	return r, err
}

// fleet has n copies of this program play a role, all at once, and returns their
// reports.
func fleet(ctx context.Context, n int, r role) (reports []report, err error) {
	var all []*process
	for i := range n {
		r.Number = i + 1
		p, err := start(ctx, r)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	for _, p := range all {
		if err := p.begin(); err != nil {
			return nil, err
		}
	}
	for _, p := range all {
		r, err := p.end()
		if err != nil {
			return nil, err
		}
		reports = append(reports, r)
	}
	return reports, nil
}

// total is what several processes did together: from when the first began to when
// the last ended.
func total(reports []report) (sum report) {
	for i, r := range reports {
		if i == 0 || r.Begin.Before(sum.Begin) {
			sum.Begin = r.Begin
		}
		if r.End.After(sum.End) {
			sum.End = r.End
		}
		sum.Jobs += r.Jobs
		sum.Turns += r.Turns
		sum.CPU += r.CPU
	}
	return sum
}

// rate is a report's jobs a second.
func (r report) rate() float64 { return float64(r.Jobs) / r.End.Sub(r.Begin).Seconds() }

// report is what a process says at its end.
type report struct {
	Jobs       int
	Begin, End time.Time // when it was told to begin; its last commit
	Turns      int       // transactions
	CPU        time.Duration
}
