package jobs

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Explanation is why a job does not run, or what became of it.
type Explanation struct {
	// Reason is one word for programs: ended, running, delayed, paused, unhandled,
	// limited, busy or due.
	Reason string `json:"reason"`
	Why    string `json:"why"`            // one sentence
	Todo   string `json:"todo,omitempty"` // what would change it; empty: nothing need be done
}

// Explain says in plain words why a job, as Inspector.Job has just returned it,
// does not run. Of several reasons it names the first that would have to go. now
// is the wall clock.
func Explain(ctx context.Context, q Inspector, row Row, now time.Time) (Explanation, error) {
	workers, err := q.Workers(ctx)
	if err != nil {
		return Explanation{}, err
	}
	policies, err := q.Policies(ctx)
	if err != nil {
		return Explanation{}, err
	}
	e := explainer{row, workers, policies, now}
	for _, reason := range []func() *Explanation{e.ended, e.running, e.delayed, e.paused, e.unhandled} {
		if x := reason(); x != nil {
			return *x, nil
		}
	}
	x, err := e.limited(ctx, q)
	if err != nil {
		return Explanation{}, err
	}
	if x == nil {
		x = e.busy()
	}
	return *x, nil
}

type explainer struct {
	Row
	workers  []WorkerRow
	policies []PolicyRow
	now      time.Time
}

func (e explainer) ended() *Explanation {
	why := fmt.Sprintf("it %s %s ago", e.Status, e.since(e.CompletedAt))
	switch e.Status {
	case Completed:
		return &Explanation{Reason: "ended", Why: why + "."}
	case Failed:
		return &Explanation{Reason: "ended", Why: fmt.Sprintf("%s, after %d of %d attempts: %s", why, e.Attempts, e.MaxAttempts, firstLine(e.Error)),
			Todo: fmt.Sprintf("mend the cause, then: enqueuer job retry %d", e.ID)}
	case Cancelled:
		return &Explanation{Reason: "ended", Why: fmt.Sprintf("it was cancelled %s ago.", e.since(e.CompletedAt)),
			Todo: fmt.Sprintf("to run it after all: enqueuer job retry %d", e.ID)}
	}
	return nil
}

func (e explainer) running() *Explanation {
	if e.Status != Running {
		return nil
	}
	x := &Explanation{Reason: "running", Why: fmt.Sprintf("it runs: attempt %d of %d, for %s, on worker %d", e.Attempts, e.MaxAttempts, e.since(e.StartedAt), e.LeaseOwner)}
	left := time.Duration(e.LeaseLeft * float64(time.Second)).Round(100 * time.Millisecond)
	for _, w := range e.workers {
		if w.ID == e.LeaseOwner && left > 0 {
			x.Why += fmt.Sprintf(" (%s, pid %d), whose lease holds for another %v unless it is renewed.", w.Host, w.PID, left)
			return x
		}
	}
	x.Why += ", which is dead or stands still: another takes the job in a moment."
	if len(e.workers) == 0 {
		x.Todo = "no worker runs: start one"
	}
	return x
}

func (e explainer) delayed() *Explanation {
	wait := e.RunAt.Time().Sub(e.now)
	if wait <= 0 {
		return nil
	}
	why := "it is delayed until"
	if e.Attempts > 0 && e.Error != "" {
		why = fmt.Sprintf("attempt %d failed (%s), and it waits to be tried again until", e.Attempts, firstLine(e.Error))
	}
	return &Explanation{Reason: "delayed", Why: fmt.Sprintf("%s %s, in %s.", why, e.RunAt.Time().Local().Format("2006-01-02 15:04:05"), about(wait)),
		Todo: fmt.Sprintf("to run it now: enqueuer job retry %d", e.ID)}
}

// bound are the policies that the job comes under.
func (e explainer) bound() (list []PolicyRow) {
	for _, p := range e.policies {
		if p.Holds(e.Type, e.Queue) {
			list = append(list, p)
		}
	}
	return list
}

func (e explainer) paused() *Explanation {
	for _, p := range e.bound() {
		if p.Paused {
			return &Explanation{Reason: "paused", Why: fmt.Sprintf("%s %s is paused.", p.Kind, p.Name),
				Todo: fmt.Sprintf("enqueuer %s resume %s", p.Kind, p.Name)}
		}
	}
	return nil
}

func (e explainer) unhandled() *Explanation {
	x := &Explanation{Reason: "unhandled"}
	var ofType, ofQueue bool
	for _, w := range e.workers {
		if w.Handles(e.Type, e.Queue) {
			return nil
		}
		ofType = ofType || slices.Contains(w.Types, e.Type)
		ofQueue = ofQueue || slices.Contains(w.Queues, e.Queue)
	}
	switch {
	case len(e.workers) == 0:
		x.Why, x.Todo = "no worker runs.", "start one"
	case !ofType:
		x.Why, x.Todo = fmt.Sprintf("no worker handles type %s.", e.Type), fmt.Sprintf("start one that does: worker --exec '%s=COMMAND', or a program with a handler for it", e.Type)
	case !ofQueue:
		x.Why, x.Todo = fmt.Sprintf("no worker works on queue %s.", e.Queue), fmt.Sprintf("start one that does: worker --queue %s", e.Queue)
	default:
		x.Why, x.Todo = fmt.Sprintf("some workers handle type %s and others work on queue %s, but none does both.", e.Type, e.Queue),
			"start one that does both"
	}
	return x
}

// limited names the limit that is taken, and who holds it.
func (e explainer) limited(ctx context.Context, q Inspector) (*Explanation, error) {
	for _, p := range e.bound() {
		if p.MaxRunning > 0 && p.Running >= p.MaxRunning {
			filter := Filter{Status: Running, Type: p.Name, Limit: 4}
			if p.Kind == OfQueue {
				filter.Type, filter.Queue = "", p.Name
			}
			holders, err := q.Jobs(ctx, filter)
			if err != nil {
				return nil, err
			}
			return &Explanation{Reason: "limited", Why: fmt.Sprintf("at most %d of %s %s may run at once, and %s.", p.MaxRunning, p.Kind, p.Name, hold(holders)),
				Todo: fmt.Sprintf("wait for one to end, or: enqueuer %s set %s --max-running N", p.Kind, p.Name)}, nil
		}
		if p.MaxStarts.N > 0 && p.Started >= p.MaxStarts.N {
			return &Explanation{Reason: "limited", Why: fmt.Sprintf("at most %d of %s %s may start in %s, and so many have: the next may in %s.",
				p.MaxStarts.N, p.Kind, p.Name, about(p.MaxStarts.Per), about(max(0, p.Opens.Sub(e.now)))),
				Todo: fmt.Sprintf("wait, or: enqueuer %s set %s --max-starts N/D", p.Kind, p.Name)}, nil
		}
	}
	return nil, nil
}

// hold names some of the jobs that hold a limit.
func hold(holders []Row) string {
	var ids []string
	for _, h := range holders[:min(3, len(holders))] {
		ids = append(ids, fmt.Sprint(h.ID))
	}
	switch more := len(holders) > 3; {
	case len(holders) == 0:
		return "they just did"
	case len(ids) == 1:
		return "job " + ids[0] + " does"
	case more:
		return "jobs " + strings.Join(ids, ", ") + " and others do"
	}
	return "jobs " + strings.Join(ids[:len(ids)-1], ", ") + " and " + ids[len(ids)-1] + " do"
}

// busy tells whether any worker that handles the job has a slot for it.
func (e explainer) busy() *Explanation {
	running, slots := 0, 0
	for _, w := range e.workers {
		if w.Handles(e.Type, e.Queue) {
			running += min(w.Running, w.Concurrency) // not what it has claimed ahead
			slots += w.Concurrency
		}
	}
	if running >= slots {
		return &Explanation{Reason: "busy", Why: fmt.Sprintf("all %d slots for it are taken, or others go first.", slots),
			Todo: fmt.Sprintf("wait, add workers, or: enqueuer job prioritize --priority 10 %d", e.ID)}
	}
	if running > 0 {
		return &Explanation{Reason: "due", Why: fmt.Sprintf("it is due: a worker begins it as soon as it has a slot for its queue (%d of %d slots are taken) and nothing better to do.", running, slots),
			Todo: "if it stays like this, add workers, or slots for its queue"}
	}
	return &Explanation{Reason: "due", Why: "it is due, and nothing is in its way: a worker begins it in a moment.",
		Todo: "if it stays like this, look at the workers' log: another process may sit on the file's write lock"}
}

func (e explainer) since(t Seconds) string {
	if t == 0 { // another program wrote the status alone
		return "some time"
	}
	return about(max(0, e.now.Sub(t.Time())))
}

// about is a duration with what matters of it.
func about(d time.Duration) string {
	round := time.Minute
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	case d < time.Second:
		round = 10 * time.Millisecond
	case d < time.Hour:
		round = time.Second
	}
	text := d.Round(round).String()
	if short, ok := strings.CutSuffix(text, "m0s"); ok {
		text = short + "m"
	}
	if short, ok := strings.CutSuffix(text, "h0m"); ok {
		text = short + "h"
	}
	return text
}
