//go:build linux

package torture_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// jobRow is a job as another program finds it at the end.
type jobRow struct {
	ID          int64
	Type        string `json:"job_type"`
	Payload     string
	Status      string
	Attempts    int
	MaxAttempts int   `json:"max_attempts"`
	Token       int64 `json:"lease_token"`
	payload
}

// errorRow is an attempt that did not complete, of sync_job_errors.
type errorRow struct {
	Job    int64 `json:"job_id"`
	Token  int64 `json:"lease_token"`
	Worker int64 `json:"worker_id"`
	Ending string
}

func (e errorRow) attempt() ref { return ref{ID: e.Job, Token: e.Token} }

// span is a time, in ns of CLOCK_MONOTONIC.
type span struct{ from, to int64 }

const never = int64(1) << 62

// life is what was done to one process.
type life struct {
	name     string
	pid      int
	seat     int64
	started  int64
	killed   int64 // when the signal was sent, by us or at a point; 0: never
	dead     int64
	end      string
	struck   int64  // when something was done to it that ends it, be it a polite word; 0: never
	stops    []span // with the time at which it was continued
	stalls   []span // those in a commit
	lastTurn int64  // the last that is known of its turns
}

// call is an operation with its answer; without one its end is never.
type call struct {
	event        // the call
	answer event // its return
	by     *life
	span
}

func (c call) answered() bool { return c.to != never }

// known says that the call has happened, or not, for certain.
func (c call) known() bool { return c.answered() && c.answer.Fate != unknown }

// happened says that it certainly has.
func (c call) happened() bool { return c.answered() && c.answer.Fate == "" }

// claimed is a claim and the turn that made it.
type claimed struct {
	call
	claim
}

// story is everything that is known after a run.
type story struct {
	testing.TB
	options
	lives    map[string]*life
	bySeat   map[int64]*life
	calls    map[string][]call // by op, in the order of their beginnings
	events   map[string][]call // of one line
	claims   map[ref]claimed   // that were answered
	reaps    map[ref]span      // that were answered
	renewals map[ref]int64     // when the last that was granted began
	faults   []event
	calm     int64 // when the faults ended
	settled  int64 // the last job when all had ended; what ticked since may wait for the next workers
	begun    int64

	jobs   map[int64]*jobRow
	byKey  map[string][]*jobRow
	errors []errorRow
}

// tell reads histories and database.
func tell(t testing.TB, o options, dir string) *story {
	t.Helper()
	s := &story{TB: t, options: o, lives: make(map[string]*life), bySeat: make(map[int64]*life),
		calls: make(map[string][]call), events: make(map[string][]call),
		jobs: make(map[int64]*jobRow), byKey: make(map[string][]*jobRow)}
	histories := readHistories(t, dir)
	for _, h := range histories { // by name: the conductor's is the first
		if h.name == "conductor" {
			s.conductor(h.events)
		} else {
			s.process(h)
		}
	}
	for _, calls := range s.calls {
		slices.SortFunc(calls, func(a, b call) int { return int(a.from - b.from) })
	}
	s.reaps, s.renewals = make(map[ref]span), make(map[ref]int64)
	for _, c := range s.events["reap"] {
		for _, r := range c.Refs {
			r.Failed = false
			s.reaps[r] = c.span
		}
	}
	for _, c := range s.events["renew"] {
		for _, r := range c.Refs {
			if c.Err == "" && !slices.Contains(c.Lost, r) {
				s.renewals[r] = max(s.renewals[r], c.from)
			}
		}
	}
	s.claims = make(map[ref]claimed)
	for _, c := range s.turns() {
		for _, cl := range c.answer.Claimed {
			s.claims[cl.ref] = claimed{c, cl}
		}
	}
	for _, row := range query[jobRow](t, o.db, `SELECT id, job_type, payload, status, attempts, coalesce(max_attempts, 0) AS max_attempts, lease_token
		FROM sync_jobs WHERE queue = '`+o.queue+`'`) {
		if err := json.Unmarshal([]byte(row.Payload), &row.payload); err != nil {
			t.Fatal(err)
		}
		s.jobs[row.ID] = &row
		s.byKey[row.Key] = append(s.byKey[row.Key], &row)
	}
	s.errors = query[errorRow](t, o.db, `SELECT job_id, lease_token, worker_id, ending FROM sync_job_errors`)
	return s
}

func (s *story) life(name string) *life {
	l := s.lives[name]
	if l == nil {
		l = &life{name: name, dead: never}
		s.lives[name] = l
	}
	return l
}

func (s *story) conductor(events []event) {
	s.faults = events
	for _, e := range events {
		l := s.life(e.Note)
		switch e.Op {
		case "start":
			l.pid, l.started = int(e.ID), e.At
			if s.begun == 0 {
				s.begun = e.At
			}
		case "kill":
			if l.killed == 0 {
				l.killed = e.At
				l.strike(e.At)
			}
		case "kill guard", "term":
			l.strike(e.At)
		case "stopped", "stopped in a commit":
			l.stops = append(l.stops, span{e.At, never})
			if e.Op != "stopped" {
				l.stalls = append(l.stalls, span{e.At, never})
			}
		case "continued":
			l.stops[len(l.stops)-1].to = e.At
			if n := len(l.stalls); n > 0 && l.stalls[n-1].to == never {
				l.stalls[n-1].to = e.At
			}
		case "dead":
			l.dead, l.end = e.At, e.Keys[0]
		case "full": // nobody can write then, nor for as long as a failed renewal waits
			l.stalls = append(l.stalls, span{e.From, e.At + int64(200*time.Millisecond)})
		case "calm":
			s.calm = e.At
		case "settled":
			if _, err := fmt.Sscan(e.Keys[0], &s.settled); err != nil {
				s.Fatal(err)
			}
		}
	}
	delete(s.lives, "")
}

func (s *story) process(h record) {
	l := s.life(h.name)
	open := make(map[int64]int)
	for _, e := range h.events {
		switch {
		case e.Op == "join":
			l.seat = e.ID
			s.bySeat[e.ID] = l
		case e.Op == "point":
			if strings.HasSuffix(e.Note, "SIGKILL") {
				l.killed = e.At
				l.strike(e.At)
			}
		case e.Call == 0:
			s.events[e.Op] = append(s.events[e.Op], call{event: e, answer: e, by: l, span: span{e.From, e.At}})
		case !e.Done:
			open[e.Call] = len(s.calls[e.Op])
			s.calls[e.Op] = append(s.calls[e.Op], call{event: e, by: l, span: span{e.At, never}})
		default:
			c := &s.calls[e.Op][open[e.Call]]
			c.answer, c.to = e, e.At
		}
		if e.Op == "turn" {
			l.lastTurn = e.At
		}
	}
}

// turns are the turns of both kinds: with outcomes, and those that only claimed.
func (s *story) turns() []call { return append(slices.Clone(s.events["turn"]), s.calls["turn"]...) }

// complain says what is wrong, the first few times.
func (s *story) complain(what string, list []string) {
	s.Helper()
	if len(list) == 0 {
		return
	}
	slices.Sort(list)
	s.Errorf("%s: %d times:\n\t%s", what, len(list), strings.Join(list[:min(len(list), 8)], "\n\t"))
}

// strike notes that something ends the process from then on.
func (l *life) strike(at int64) {
	if l.struck == 0 || at < l.struck {
		l.struck = at
	}
}

// standstill is for how long, between two times, nobody could write: a process
// was stopped in a commit, or the disk was full.
func (s *story) standstill(from, to int64) (total int64) {
	var spans []span
	for _, l := range s.lives {
		for _, st := range l.stalls {
			if st.from < to && st.to > from {
				spans = append(spans, span{max(st.from, from), min(st.to, to)})
			}
		}
	}
	slices.SortFunc(spans, func(a, b span) int { return int(a.from - b.from) })
	for _, st := range spans {
		total += max(0, st.to-max(st.from, from))
		from = max(from, st.to)
	}
	return total
}

// disturbed says that something was done to the caller, or to the file, that
// explains why a call failed: it was told to end before the answer, or something
// stood still for a while.
func (s *story) disturbed(c call) bool {
	since := c.from - int64(s.lease) // a lease that was lost is told later
	return c.by.struck != 0 && c.by.struck <= c.to || s.standstill(since, c.to) > 0 ||
		slices.ContainsFunc(c.by.stops, func(st span) bool { return st.from < c.to && st.to > since })
}

func (l *life) String() string {
	return fmt.Sprintf("%s (pid %d, seat %d)", l.name, l.pid, l.seat)
}
