//go:build linux

package torture_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// jobState is a job in the model: where it is in its life.
type jobState struct {
	status   string // empty: not enqueued yet
	token    int64
	attempts int
}

// jobOp is an operation on one job. All that is known of its answer is in it.
type jobOp struct {
	what      string
	token     int64
	attempt   int    // of a claim; -1: not known
	status    string // of an outcome, or at the end
	uncounted bool
	max       int // attempts
	// maybe has an operation whose answer was lost do nothing where it does not fit.
	maybe bool
}

// step is the model: a job's life, as DESIGN.md draws it.
func (op jobOp) step(s jobState) (bool, jobState) {
	running := s.status == "running" && s.token == op.token
	switch op.what {
	case "enqueue":
		return s.status == "", jobState{status: "pending"}
	case "claim":
		ok := s.status == "pending" && op.token == s.token+1 && (op.attempt < 0 || op.attempt == s.attempts+1) && s.attempts < op.max
		return ok, jobState{"running", op.token, s.attempts + 1}
	case "outcome":
		next := jobState{op.status, s.token, s.attempts}
		if op.uncounted {
			next.attempts--
		}
		if !running {
			next = s
		}
		return running || op.maybe, next
	case "reap":
		next := jobState{"pending", s.token, s.attempts}
		if s.attempts >= op.max {
			next.status = "failed"
		}
		return running && (op.status == "" || op.status == next.status), next
	case "held":
		return running, s
	case "not held":
		return !running, s
	case "end":
		return s == jobState{op.status, op.token, op.attempt}, s
	}
	panic(op.what)
}

func (op jobOp) String() string {
	text := fmt.Sprintf("%s token %d", op.what, op.token)
	if op.attempt > 0 {
		text += fmt.Sprintf(" attempt %d", op.attempt)
	}
	if op.status != "" {
		text += " " + op.status
	}
	if op.uncounted {
		text += " uncounted"
	}
	if op.maybe {
		text += " (perhaps)"
	}
	return text
}

var jobModel = porcupine.Model{
	Init: func() any { return jobState{} },
	Step: func(state, input, _ any) (bool, any) {
		ok, next := input.(jobOp).step(state.(jobState))
		return ok, next
	},
}

// checkModel looks, for each job, for an order of all operations on it in which
// each is where it took place and does what it answered: linearizability.
func (s *story) checkModel() {
	s.Helper()
	histories := s.perJob()
	var wrong []string
	n := 0
	began := time.Now()
	for id, ops := range histories {
		n += len(ops)
		switch porcupine.CheckOperationsTimeout(jobModel, ops, 10*time.Second) {
		case porcupine.Illegal:
			wrong = append(wrong, fmt.Sprintf("job %d: no order explains\n%s", id, s.describe(ops)))
		case porcupine.Unknown:
			wrong = append(wrong, fmt.Sprintf("job %d: the model's check took too long", id))
		}
	}
	s.complain("not linearizable", wrong)
	s.Logf("model: %d jobs, %d operations: linearizable, but for %d jobs (%v)", len(histories), n, len(wrong), time.Since(began).Round(time.Millisecond))
}

func (s *story) describe(ops []porcupine.Operation) string {
	var lines []string
	slices.SortFunc(ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	for _, op := range ops {
		to := "never answered"
		if op.Return < never {
			to = fmt.Sprintf("%10.6f", float64(op.Return-s.begun)/1e9)
		}
		lines = append(lines, fmt.Sprintf("\t\t%10.6f to %s: %v by %v", float64(op.Call-s.begun)/1e9, to, op.Input, op.Metadata))
	}
	return strings.Join(lines, "\n")
}

// perJob sorts what is known by the job that it is about.
func (s *story) perJob() map[int64][]porcupine.Operation {
	histories := make(map[int64][]porcupine.Operation)
	clients := make(map[*life]int)
	add := func(id int64, op jobOp, at span, by *life) {
		job := s.jobs[id]
		if job == nil {
			return // of another queue
		}
		op.max = job.MaxAttempts
		name := "?"
		if by != nil {
			name = by.name
			if _, ok := clients[by]; !ok {
				clients[by] = len(clients) + 1
			}
		}
		histories[id] = append(histories[id], porcupine.Operation{
			ClientId: clients[by], Input: op, Call: at.from, Return: at.to, Metadata: name,
		})
	}
	s.addEnqueues(add)
	claimed := s.addClaims(add)
	s.addOutcomes(add, claimed)
	s.addReaps(add)
	for _, c := range s.events["renew"] {
		if c.Err != "" {
			continue
		}
		for _, r := range c.Refs {
			what := "held"
			if slices.Contains(c.Lost, r) {
				what = "not held"
			}
			add(r.ID, jobOp{what: what, token: r.Token}, c.span, c.by)
		}
	}
	end := monotonic()
	for id, job := range s.jobs {
		add(id, jobOp{what: "end", token: job.Token, attempt: job.Attempts, status: job.Status}, span{end, end + 1}, nil)
	}
	for id := range histories {
		for i := range histories[id] {
			// What was never answered took place before we looked.
			if op := &histories[id][i]; op.Return == never {
				op.Return = end - 1
			}
		}
	}
	return histories
}

type adder func(id int64, op jobOp, at span, by *life)

// addEnqueues adds the one call that made each job.
func (s *story) addEnqueues(add adder) {
	made := make(map[string]call)
	for _, op := range []string{"enqueue", "tick", "finish"} {
		for _, c := range s.calls[op] {
			for _, key := range c.Keys {
				if before, ok := made[key]; !ok || c.happened() && !before.happened() {
					made[key] = c
				} else if !c.answered() && !before.happened() {
					before.from = min(before.from, c.from)
					made[key] = before
				}
			}
		}
	}
	for id, job := range s.jobs {
		if c, ok := made[job.Key]; ok {
			add(id, jobOp{what: "enqueue"}, c.span, c.by)
		}
	}
}

// addClaims adds the claims that were answered, and for each token without one
// a claim by the process that died over it.
func (s *story) addClaims(add adder) map[ref]*life {
	claimed := make(map[ref]*life)
	for _, c := range s.turns() {
		for _, cl := range c.answer.Claimed {
			claimed[ref{ID: cl.ID, Token: cl.Token}] = c.by
			add(cl.ID, jobOp{what: "claim", token: cl.Token, attempt: cl.Attempt}, c.span, c.by)
		}
	}
	died := make(map[ref]*life)
	for _, e := range s.errors {
		died[ref{ID: e.Job, Token: e.Token}] = s.bySeat[e.Worker]
	}
	for id, job := range s.jobs {
		for token := int64(1); token <= job.Token; token++ {
			r := ref{ID: id, Token: token}
			if claimed[r] != nil {
				continue
			}
			// Without a row of history it was given back by a process that left.
			l := died[r]
			from := s.begun
			if l != nil {
				from = max(from, l.lastTurn)
			}
			add(id, jobOp{what: "claim", token: token, attempt: -1}, span{from, never}, l)
		}
	}
	return claimed
}

func (s *story) addOutcomes(add adder, claimed map[ref]*life) {
	for _, op := range []string{"turn", "finish"} {
		for _, c := range s.calls[op] {
			for _, o := range c.Outcomes {
				op := jobOp{what: "outcome", token: o.Token, status: o.Status, uncounted: o.Uncounted}
				at := c.span
				switch {
				case c.answered() && c.answer.Fate == failed:
					continue
				case !c.known():
					op.maybe, at.to = true, never
				case c.answer.Fate == refused || slices.ContainsFunc(c.answer.Refs, func(r ref) bool { return r.ID == o.ID && r.Token == o.Token }):
					op = jobOp{what: "not held", token: o.Token}
				}
				add(o.ID, op, at, c.by)
			}
		}
	}
	// Who leaves gives back what is still in its hands.
	leaving := make(map[*life]call)
	for _, c := range s.calls["leave"] {
		leaving[c.by] = c
	}
	for r, l := range claimed {
		if c, ok := leaving[l]; ok {
			at := c.span
			if !c.happened() {
				at.to = never
			}
			add(r.ID, jobOp{what: "outcome", token: r.Token, status: "pending", uncounted: true, maybe: true}, at, l)
		}
	}
}

// addReaps adds what the reapers answered, and what the jobs' histories tell of
// reaps whose answer was lost.
func (s *story) addReaps(add adder) {
	known := make(map[ref]bool)
	for _, c := range s.events["reap"] {
		if c.Err != "" {
			continue
		}
		for _, r := range c.Refs {
			known[ref{ID: r.ID, Token: r.Token}] = true
			add(r.ID, jobOp{what: "reap", token: r.Token, status: map[bool]string{true: "failed", false: "pending"}[r.Failed]}, c.span, c.by)
		}
	}
	for _, e := range s.errors {
		if e.Ending != "failed" && !known[ref{ID: e.Job, Token: e.Token}] {
			add(e.Job, jobOp{what: "reap", token: e.Token}, span{s.begun, never}, nil)
		}
	}
}
