package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shoal-project/shoal/internal/command"
	"github.com/shoal-project/shoal/pkg/jobs"
)

// policyLine is a type or queue as it is listed.
type policyLine struct {
	jobs.PolicyRow
	pending, running int64
	handled          bool
}

func (c *call) listPolicies(kind jobs.PolicyKind) error {
	lines, err := c.policyLines(kind)
	if err != nil {
		return err
	}
	columns := []string{strings.ToUpper(string(kind)), "PENDING", "RUNNING", "WHAT HOLDS"}
	return list(c, string(kind)+"s", lines, columns, func(l policyLine) (any, []string) {
		return l.object(), []string{l.Name, command.Count(l.pending), command.Count(l.running), l.holds(c.now())}
	})
}

// policyLines are all types or queues that anything is known of.
func (c *call) policyLines(kind jobs.PolicyKind) ([]policyLine, error) {
	policies, err := c.home.Store.Policies(c.ctx)
	if err != nil {
		return nil, err
	}
	stats, err := c.home.Store.Stats(c.ctx)
	if err != nil {
		return nil, err
	}
	workers, err := c.home.Store.Workers(c.ctx)
	if err != nil {
		return nil, err
	}
	lines := make(map[string]*policyLine)
	line := func(name string) *policyLine {
		if lines[name] == nil {
			lines[name] = &policyLine{PolicyRow: jobs.PolicyRow{Kind: kind, Name: name}}
		}
		return lines[name]
	}
	for _, p := range policies {
		if p.Kind == kind {
			line(p.Name).PolicyRow = p
		}
	}
	for _, t := range stats.Types {
		l := line(map[jobs.PolicyKind]string{jobs.OfType: t.Type, jobs.OfQueue: t.Queue}[kind])
		l.pending += t.Pending
		l.running += t.Running
	}
	for _, w := range workers {
		for _, name := range map[jobs.PolicyKind][]string{jobs.OfType: w.Types, jobs.OfQueue: w.Queues}[kind] {
			line(name).handled = true
		}
	}
	var sorted []policyLine
	for _, l := range lines {
		sorted = append(sorted, *l)
	}
	slices.SortFunc(sorted, func(a, b policyLine) int { return cmp.Compare(a.Name, b.Name) })
	return sorted, nil
}

// holds is what holds, for people.
func (l policyLine) holds(now time.Time) string {
	var said []string
	say := func(yes bool, format string, args ...any) {
		if yes {
			said = append(said, fmt.Sprintf(format, args...))
		}
	}
	say(l.Paused, "PAUSED")
	say(!l.handled, "no worker handles it")
	say(l.MaxRunning > 0, "%d/%d running", l.Running, l.MaxRunning)
	say(l.MaxStarts.N > 0, "%d/%d started in %s", l.Started, l.MaxStarts.N, command.Span(l.MaxStarts.Per))
	say(l.Opens.After(now), "next %s", command.Ago(now, l.Opens))
	say(l.MaxAttempts > 0, "%d attempts", l.MaxAttempts)
	say(l.Timeout > 0, "timeout %s", command.Span(l.Timeout))
	say(l.Retry.Delay > 0, "retry after %s", command.Span(l.Retry.Delay))
	say(l.Retry.Cap > 0, "at most %s", command.Span(l.Retry.Cap))
	say(l.Retry.Jitter != 0, "jitter %v", max(0, l.Retry.Jitter))
	return strings.Join(said, ", ")
}

// object has the keys of the table's columns.
func (l policyLine) object() any {
	var jitter *float64
	if j := max(0, l.Retry.Jitter); l.Retry.Jitter != 0 {
		jitter = &j
	}
	return struct {
		Kind        jobs.PolicyKind `json:"kind"`
		Name        string          `json:"name"`
		Pending     int64           `json:"pending"`
		Running     int64           `json:"running"`
		Handled     bool            `json:"handled"`
		Paused      bool            `json:"paused"`
		MaxAttempts int             `json:"max_attempts,omitempty"`
		Timeout     float64         `json:"timeout,omitempty"`
		RetryDelay  float64         `json:"retry_delay,omitempty"`
		RetryCap    float64         `json:"retry_cap,omitempty"`
		RetryJitter *float64        `json:"retry_jitter,omitempty"`
		MaxRunning  int             `json:"max_running,omitempty"`
		MaxStarts   int             `json:"max_starts,omitempty"`
		StartsPer   float64         `json:"starts_per,omitempty"`
		Started     int             `json:"started,omitempty"`
		OpensAt     jobs.Seconds    `json:"opens_at,omitempty"`
	}{
		l.Kind, l.Name, l.pending, l.running, l.handled, l.Paused, l.MaxAttempts, l.Timeout.Seconds(),
		l.Retry.Delay.Seconds(), l.Retry.Cap.Seconds(), jitter, l.MaxRunning, l.MaxStarts.N, l.MaxStarts.Per.Seconds(),
		l.Started, jobs.SecondsOf(l.Opens),
	}
}
