//go:build linux

package torture_test

import (
	"slices"

	"github.com/anishathalye/porcupine"
)

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
	s.addClaims(add)
	s.addOutcomes(add)
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
func (s *story) addClaims(add adder) {
	for r, c := range s.claims {
		add(r.ID, jobOp{what: "claim", token: r.Token, attempt: c.Attempt}, c.span, c.by)
	}
	died := make(map[ref]*life)
	for _, e := range s.errors {
		died[e.attempt()] = s.bySeat[e.Worker]
	}
	for id, job := range s.jobs {
		for token := int64(1); token <= job.Token; token++ {
			r := ref{ID: id, Token: token}
			if _, ok := s.claims[r]; ok {
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
}

func (s *story) addOutcomes(add adder) {
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
				case c.answer.Fate == refused || slices.Contains(c.answer.Refs, o.ref):
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
	for r, claim := range s.claims {
		if c, ok := leaving[claim.by]; ok {
			at := c.span
			if !c.happened() {
				at.to = never
			}
			add(r.ID, jobOp{what: "outcome", token: r.Token, status: "pending", uncounted: true, maybe: true}, at, c.by)
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
		if e.Ending != "failed" && !known[e.attempt()] {
			add(e.Job, jobOp{what: "reap", token: e.Token}, span{s.begun, never}, nil)
		}
	}
}
