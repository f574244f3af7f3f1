package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// process is a child that says when it is ready, and reports at its end.
type process struct {
	role
	child
	lines *bufio.Reader // of stdout
}

// start starts a process and waits until it is ready.
func start(ctx context.Context, r role) (*process, error) {
	c, err := startChild(ctx, os.Stderr, r, "role")
	if err != nil {
		return nil, err
	}
	p := &process{role: r, child: c, lines: bufio.NewReader(c.stdout)}
	if _, err := p.lines.ReadString('\n'); err != nil {
		return nil, fmt.Errorf("%s %d is not ready: %w", r.Kind, r.Number, errors.Join(err, p.cmd.Wait()))
	}
	return p, nil
}

// cpu asks an idle worker what it has used so far.
func (p *process) cpu() (used time.Duration, err error) {
	if _, err := io.WriteString(p.stdin, "\n"); err != nil {
		return 0, err
	}
	line, err := p.lines.ReadBytes('\n')
	if err != nil {
		return 0, fmt.Errorf("%s %d: %w", p.Kind, p.Number, err)
	}
	err = json.Unmarshal(line, &used)
	return used, err
}

// end waits for a process's end and returns its report.
func (p *process) end() (r report, err error) {
	if err := json.NewDecoder(p.lines).Decode(&r); err != nil {
		return r, fmt.Errorf("%s %d: %w", p.Kind, p.Number, errors.Join(err, p.cmd.Wait()))
	}
	return r, p.cmd.Wait()
}

// fleet is copies of this program that play one role. Whoever stops with an error
// ends their context, and with it them.
type fleet []*process

// startFleet starts n of them, all of which are ready when it returns.
func startFleet(ctx context.Context, n int, r role) (all fleet, err error) {
	for i := range n {
		r.Number = i + 1
		p, err := start(ctx, r)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// finish has them all begin, or end that are idle, and returns their reports.
func (f fleet) finish() (reports []report, err error) {
	for _, p := range f {
		if err := p.stdin.Close(); err != nil {
			return nil, err
		}
	}
	for _, p := range f {
		r, err := p.end()
		if err != nil {
			return nil, err
		}
		reports = append(reports, r)
	}
	return reports, nil
}

// alone has one process play a role from its beginning to its end.
func alone(ctx context.Context, r role) (report, error) {
	f, err := startFleet(ctx, 1, r)
	if err != nil {
		return report{}, err
	}
	reports, err := f.finish()
	if err != nil {
		return report{}, err
	}
	return reports[0], nil
}

// cpu is what all idle workers together have used so far.
func (f fleet) cpu() (sum time.Duration, err error) {
	for _, p := range f {
		used, err := p.cpu()
		if err != nil {
			return 0, err
		}
		sum += used
	}
	return sum, nil
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
	}
	return sum
}

// rate is a report's jobs a second.
func (r report) rate() float64 { return float64(r.Jobs) / r.End.Sub(r.Begin).Seconds() }
