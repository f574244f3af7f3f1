//go:build linux

package torture_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// checkReaps: no job is reaped whose holder was neither killed, or told to end,
// nor stopped for as long as a lease may go without a renewal (it is renewed
// every third of it), and each of these before the reap.
func (s *story) checkReaps() {
	var wrong []string
	n := 0
	for _, e := range s.errors {
		if s.jobs[e.Job] == nil || e.Ending == "failed" {
			continue
		}
		n++
		at := s.reaped(e.attempt())
		l := s.bySeat[e.Worker]
		if l != nil && (l.struck != 0 && l.struck <= at.to || e.Ending == "stuck" && s.silence(l, s.renewed(e.attempt()), at.to) >= s.lease*2/3) {
			continue
		}
		wrong = append(wrong, fmt.Sprintf("job %d token %d (%s at %.3f s): its worker %v had been neither killed nor stopped for its lease",
			e.Job, e.Token, e.Ending, float64(at.to-s.begun)/1e9, l))
	}
	s.complain("reaped without a reason", wrong)
	s.Logf("reaps: %d attempts, each of a worker that was killed or stopped before", n-len(wrong))
}

// reaped is when a job was taken from its worker. Where the reaper died over it,
// it was before the next claim.
func (s *story) reaped(r ref) span {
	at, known := s.reaps[r]
	if !known {
		at = span{0, never}
		if next, ok := s.claims[r.next()]; ok {
			at.to = next.to
		}
	}
	return at
}

// renewed is when the lease of an attempt was last asked for and granted, as its
// worker knew.
func (s *story) renewed(r ref) int64 { return max(s.claims[r].from, s.renewals[r]) }

// silence is for how long a process, of which a job was taken then, could not renew
// its lease: it was stopped. Where nobody could write before, and it was stopped
// when the others renewed, that time counts, too.
func (s *story) silence(l *life, from, reaped int64) time.Duration {
	silent := l.stoppedBetween(from, reaped)
	for _, st := range l.stops {
		if st.from <= reaped && reaped <= st.to {
			silent = max(silent, time.Duration(s.standstill(from, st.from)+reaped-max(st.from, from)))
		}
	}
	return silent
}

// stoppedBetween is for how long the process was stopped between two times.
func (l *life) stoppedBetween(from, to int64) (total time.Duration) {
	for _, st := range l.stops {
		total += time.Duration(max(0, min(st.to, to)-max(st.from, from)))
	}
	return total
}

// checkKeepers: a handler's context has ended before another could have its
// job, unless its process was stopped or dead then.
func (s *story) checkKeepers() {
	ended := make(map[ref]int64) // the handler's end, or its context's
	first := func(r ref, at int64) {
		if t, ok := ended[r]; !ok || at < t {
			ended[r] = at
		}
	}
	for _, c := range s.calls["handle"] {
		if c.answered() {
			first(c.attempt(), c.to)
		}
	}
	for _, e := range s.events["interrupted"] {
		first(e.attempt(), e.At)
	}
	var wrong []string
	for _, h := range s.calls["handle"] {
		next, ok := s.claims[h.attempt().next()]
		if !ok || h.from > next.to {
			continue
		}
		at, known := ended[h.attempt()]
		if (known && at <= next.to) || h.by.dead <= next.to || h.by.asleepAt(next.to) {
			continue
		}
		wrong = append(wrong, fmt.Sprintf("job %d token %d at %s: %s claimed token %d %.3f s before",
			h.ID, h.Token, h.by.name, next.by.name, h.Token+1, float64(at-next.to)/1e9))
	}
	s.complain("a handler that went on while another had its job", wrong)
}

func (l *life) asleepAt(at int64) bool {
	// When it is continued a moment passes before its timers are looked at.
	const moment = int64(50 * time.Millisecond)
	return slices.ContainsFunc(l.stops, func(st span) bool { return st.from <= at && at <= st.to+moment }) ||
		l.killed != 0 && l.killed <= at
}

// checkTicks: each tick was enqueued at most once (its key would be there twice),
// by the holder of the leadership's token, under tokens that only grow.
func (s *story) checkTicks() {
	leaders := make(map[int64]*life)
	var wrong []string
	for _, e := range s.events["lead"] {
		if other := leaders[e.Token]; other != nil && other != e.by {
			wrong = append(wrong, fmt.Sprintf("token %d was held by %s and by %s", e.Token, other.name, e.by.name))
		}
		leaders[e.Token] = e.by
	}
	type tick struct {
		id, token int64
	}
	var ticks []tick
	for _, job := range s.jobs {
		if job.Type != "Tick" {
			continue
		}
		ticks = append(ticks, tick{job.ID, job.payload.Token})
		// An election whose answer was lost is in no history; its process died.
		if l := leaders[job.payload.Token]; l == nil || l.name != job.Process {
			wrong = append(wrong, fmt.Sprintf("job %d: a tick by %s under token %d, which was %v's", job.ID, job.Process, job.payload.Token, l))
		}
	}
	slices.SortFunc(ticks, func(a, b tick) int { return int(a.id - b.id) })
	for i := 1; i < len(ticks); i++ {
		if ticks[i].token < ticks[i-1].token {
			wrong = append(wrong, fmt.Sprintf("job %d: a tick under token %d, after one under %d", ticks[i].id, ticks[i].token, ticks[i-1].token))
		}
	}
	s.complain("ticks that are not their leader's", wrong)
	s.Logf("ticks: %d, each once, under %d leaderships", len(ticks), len(leaders))
}

// checkDueTicks: of the ticks that were due while faults were made, 95 % were
// enqueued meanwhile. One is due when its interval has passed, whoever leads then,
// and its time is up when a stopped leader's place can have been taken; the time
// in which nobody could write is counted apart.
func (s *story) checkDueTicks() {
	enqueued := make(map[string]map[string]bool) // keys by schedule
	for _, c := range s.calls["tick"] {
		if key := c.Keys[0]; c.from <= s.calm && len(s.byKey[key]) > 0 {
			if enqueued[c.Note] == nil {
				enqueued[c.Note] = make(map[string]bool)
			}
			enqueued[c.Note][key] = true
		}
	}
	due, got := 0, 0
	until := s.calm - int64(s.lease+time.Second)
	for i, every := range s.ticks {
		d := max(0, 1+int((until-s.begun-s.standstill(s.begun, until))/int64(every))-s.unseen(every, until))
		due += d
		got += min(d, len(enqueued[fmt.Sprintf("torture-%d", i)]))
	}
	s.Logf("ticks: %d of %d due ones were enqueued (%d %%)", got, due, 100*got/max(1, due))
	if got*100 < 95*due {
		s.Errorf("%d of %d due ticks were enqueued, want 95 %%", got, due)
	}
}

// unseen is how many ticks of a schedule could not be known to be due: the wall
// clock went back, and the next leader finds its next tick in the future, whether
// or not it fell due while nobody led; or one who leads since a moment ago finds
// the tick there that it was about to make.
func (s *story) unseen(every time.Duration, until int64) (n int) {
	hours := 0
	for _, e := range s.faults {
		if e.Op != "clock" || e.At > until {
			continue
		}
		before := hours
		_, _ = fmt.Sscanf(e.Keys[0], "%d h", &hours) // it is as the nemesis wrote it
		elected := slices.ContainsFunc(s.events["lead"], func(c call) bool {
			return c.to > e.At-int64(100*time.Millisecond) && c.to < e.At+int64(every+s.lease+time.Second)
		})
		if hours < before && elected {
			n++
		}
	}
	return n
}

// checkDrains: who is told to end does so within its time to drain and a second.
func (s *story) checkDrains() {
	limit := drain + time.Second
	if raceDetector {
		limit += time.Second
	}
	var slow []string
	n, most := 0, time.Duration(0)
	for _, e := range s.faults {
		l := s.lives[e.Note]
		if e.Op != "term" || l.seat == 0 || l.killed != 0 || l.dead == never ||
			slices.ContainsFunc(l.stops, func(st span) bool { return st.to > e.At }) {
			continue
		}
		took := time.Duration(l.dead - e.At - s.standstill(e.At, l.dead))
		n, most = n+1, max(most, took)
		if took > limit {
			slow = append(slow, fmt.Sprintf("%v took %v (at %.3f s)", l, took, float64(e.At-s.begun)/1e9))
		}
	}
	s.complain("a drain that took too long", slow)
	s.Logf("drains: %d, at most %v", n, most.Round(time.Millisecond))
}

// checkExec: no two commands of one job at once.
func (s *story) checkExec(dir string) {
	text, err := os.ReadFile(filepath.Join(dir, "exec.log"))
	if err != nil {
		s.Fatal(err)
	}
	var twice []string
	starts := make(map[string]bool)
	for line := range strings.Lines(string(text)) {
		switch f := strings.Fields(line); f[0] {
		case "twice":
			twice = append(twice, "job "+f[1]+" token "+f[2])
		case "start":
			starts[f[1]] = true
		}
	}
	s.complain("two commands of one job at once", twice)
	s.Logf("exec: %d jobs' commands, %d of them twice at once", len(starts), len(twice))
}
