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

// check compares what was asked with what is there. Each complaint is a broken
// promise.
func (s *story) check(dir string) {
	s.Helper()
	if got := query[map[string]string](s, s.db, `PRAGMA integrity_check`); len(got) != 1 || got[0]["integrity_check"] != "ok" {
		s.Errorf("integrity_check: %v", got)
	}
	s.checkEnqueues()
	s.checkOutcomes()
	s.checkEffects()
	s.checkEnds()
	s.checkReaps()
	s.checkKeepers()
	s.checkTicks()
	if !s.guest { // a host that leads does not know our schedules
		s.checkDueTicks()
	}
	s.checkDrains()
	s.checkExec(dir)
	s.checkModel()
}

// checkEnqueues is Jepsen's total-queue: what was acknowledged is there, once;
// what was not is there once at most, and nothing that nobody asked for is.
func (s *story) checkEnqueues() {
	var lost, twice, refused []string
	asked := make(map[string]bool)
	acknowledged, recovered := 0, 0
	one := func(c call, i int) {
		key := c.Keys[i]
		rows := s.byKey[key]
		asked[key] = true
		switch {
		case len(rows) > 1:
			twice = append(twice, key)
		case c.happened() && len(rows) == 0:
			lost = append(lost, key)
		case c.happened() && len(c.answer.IDs) > 0 && rows[0].ID != c.answer.IDs[i]:
			lost = append(lost, fmt.Sprintf("%s: acknowledged as job %d, is %d", key, c.answer.IDs[i], rows[0].ID))
		case c.happened():
			acknowledged++
		case len(rows) == 1 && c.answer.Fate == failed:
			refused = append(refused, key+": "+c.answer.Err)
		case len(rows) == 1:
			recovered++
		}
	}
	for _, c := range s.calls["enqueue"] {
		for i := range c.Keys {
			one(c, i)
		}
		if c.answered() && !c.happened() && !s.excused(c) {
			refused = append(refused, c.by.name+": "+c.answer.Err)
		}
	}
	// Ticks and follow-ups are asked for once more when a try was lost.
	for _, op := range []string{"tick", "finish"} {
		for _, c := range s.calls[op] {
			for _, key := range c.Keys {
				asked[key] = true
				if rows := s.byKey[key]; len(rows) > 1 {
					twice = append(twice, key)
				} else if len(rows) == 0 && c.happened() {
					lost = append(lost, key)
				}
			}
		}
	}
	var unexpected []string
	for key := range s.byKey {
		if !asked[key] {
			unexpected = append(unexpected, key)
		}
	}
	s.complain("acknowledged and lost", lost)
	s.complain("there twice", twice)
	s.complain("unexpected", unexpected)
	s.complain("an enqueue failed without a reason", refused)
	s.Logf("enqueues: %d acknowledged, %d lost, %d unexpected, %d duplicated, %d recovered (there without an answer)",
		acknowledged, len(lost), len(unexpected), len(twice), recovered)
}

// excused says that a call failed for want of room, where the disk does get full.
func (s *story) excused(c call) bool { return s.small && strings.Contains(c.answer.Err, diskFull) }

// checkOutcomes: no token has two accepted outcomes, and none without a claim
// of that token by the same process. A job's tokens only grow.
func (s *story) checkOutcomes() {
	claimedBy := make(map[ref]*life)
	var doubled, alien, shrunk, rejected []string
	for _, c := range s.turns() {
		for _, cl := range c.answer.Claimed {
			r := ref{ID: cl.ID, Token: cl.Token}
			if other := claimedBy[r]; other != nil {
				doubled = append(doubled, fmt.Sprintf("job %d token %d was claimed by %s and by %s", cl.ID, cl.Token, other.name, c.by.name))
			}
			claimedBy[r] = c.by
		}
	}
	accepted := make(map[ref]string)
	late := 0
	say := func(c call, o outcome, yes bool) {
		r := ref{ID: o.ID, Token: o.Token}
		if claimedBy[r] != c.by {
			alien = append(alien, fmt.Sprintf("job %d token %d: %s of %s", o.ID, o.Token, o.Status, c.by.name))
		}
		if !yes {
			late++
			return
		}
		if before := accepted[r]; before != "" {
			doubled = append(doubled, fmt.Sprintf("job %d token %d: %s by %s, before %s", o.ID, o.Token, o.Status, c.by.name, before))
		}
		accepted[r] = o.Status + " by " + c.by.name
	}
	for _, c := range s.calls["turn"] {
		if !c.known() {
			continue
		}
		if !c.happened() && (s.excused(c) || c.by.told) { // its last words may come too late
			continue
		}
		if !c.happened() {
			rejected = append(rejected, c.by.name+": "+c.answer.Err)
			continue
		}
		for _, o := range c.Outcomes {
			say(c, o, !slices.ContainsFunc(c.answer.Refs, func(r ref) bool { return r.ID == o.ID && r.Token == o.Token }))
		}
	}
	for _, c := range s.calls["finish"] {
		if c.known() && (c.happened() || c.answer.Fate == refused) {
			say(c, c.Outcomes[0], c.happened())
		}
	}
	for r := range claimedBy {
		if job := s.jobs[r.ID]; job != nil && r.Token > job.Token {
			shrunk = append(shrunk, fmt.Sprintf("job %d: token %d was given out, the job has %d", r.ID, r.Token, job.Token))
		}
	}
	s.complain("two accepted outcomes of one token", doubled)
	s.complain("an outcome without a claim of its token", alien)
	s.complain("a token that did not grow", shrunk)
	s.complain("a turn failed", rejected)
	s.Logf("outcomes: %d accepted, %d doubled, %d late and refused; %d claims", len(accepted), len(doubled), late, len(claimedBy))
}

// checkEffects: what a handler wrote in Job.Commit is there once, and only if
// the job was completed by that very attempt; so is its follow-up.
func (s *story) checkEffects() {
	type effect struct {
		Key     string
		Token   int64
		Process string
	}
	effects := make(map[string][]effect)
	for _, e := range query[effect](s, s.db, `SELECT key, token, process FROM torture_effects`) {
		effects[e.Key] = append(effects[e.Key], e)
	}
	var wrong []string
	for key, list := range effects {
		if rows := s.byKey[key]; len(rows) != 1 || len(list) != 1 || rows[0].Status != "completed" || rows[0].Token != list[0].Token {
			wrong = append(wrong, fmt.Sprintf("%s: effects %v of jobs %+v", key, list, rows))
		}
	}
	n := 0
	for _, job := range s.jobs {
		if job.Type != "Commit" {
			continue
		}
		n++
		done := job.Status == "completed"
		if (len(effects[job.Key]) == 1) != done || (len(s.byKey[job.Key+" follow"]) == 1) != done {
			wrong = append(wrong, fmt.Sprintf("job %d is %s: %d effects, %d follow-ups", job.ID, job.Status, len(effects[job.Key]), len(s.byKey[job.Key+" follow"])))
		}
	}
	s.complain("effects that are not one with their job's completion", wrong)
	s.Logf("effects: %d jobs with rows and a follow-up in their commit", n)
}

// checkEnds: every job ended completed or, after exactly max_attempts, failed.
func (s *story) checkEnds() {
	var wrong []string
	ends := make(map[string]int)
	for _, job := range s.jobs {
		ends[job.Status]++
		ok := job.Status == "completed" && job.Attempts <= job.MaxAttempts ||
			job.Status == "failed" && job.Attempts == job.MaxAttempts
		if !ok {
			wrong = append(wrong, fmt.Sprintf("job %d (%s) is %s after %d of %d attempts", job.ID, job.Type, job.Status, job.Attempts, job.MaxAttempts))
		}
	}
	s.complain("a job that did not end as it should", wrong)
	s.Logf("jobs: %v; %d attempts died with or were taken from their worker", ends, len(s.errors))
}

// checkReaps: no job is reaped whose holder was neither killed nor stopped.
func (s *story) checkReaps() {
	var wrong []string
	for _, e := range s.errors {
		l := s.bySeat[e.Worker]
		if job := s.jobs[e.Job]; job == nil || e.Ending == "failed" {
			continue
		}
		switch {
		case l == nil || !l.hit:
			wrong = append(wrong, fmt.Sprintf("job %d token %d: its worker %d, %v, was neither killed nor stopped (%s)", e.Job, e.Token, e.Worker, l, e.Ending))
		case e.Ending == "died" && l.dead == never:
			wrong = append(wrong, fmt.Sprintf("job %d token %d: its worker %v lives", e.Job, e.Token, l))
		case e.Ending == "stuck" && !l.stoppedFor(s.lease):
			wrong = append(wrong, fmt.Sprintf("job %d token %d: its worker %v was not stopped for as long as its lease", e.Job, e.Token, l))
		}
	}
	s.complain("reaped without a reason", wrong)
}

// stoppedFor says whether a process was stopped for most of the time that
// a lease may go without a renewal; it is renewed every third of it.
func (l *life) stoppedFor(lease time.Duration) bool {
	for _, st := range l.stops {
		if st.to-st.from >= int64(lease)*2/3 {
			return true
		}
	}
	return l.dead != never && len(l.stops) > 0
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
			first(ref{ID: c.ID, Token: c.Token}, c.to)
		}
	}
	for _, e := range s.events["interrupted"] {
		first(ref{ID: e.ID, Token: e.Token}, e.At)
	}
	claimed := make(map[ref]call)
	for _, c := range s.turns() {
		for _, cl := range c.answer.Claimed {
			claimed[ref{ID: cl.ID, Token: cl.Token}] = c
		}
	}
	var wrong []string
	for _, h := range s.calls["handle"] {
		next, ok := claimed[ref{ID: h.ID, Token: h.Token + 1}]
		if !ok || h.from > next.to {
			continue
		}
		at, known := ended[ref{ID: h.ID, Token: h.Token}]
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
// enqueued. One is due when its interval has passed, whoever leads then.
func (s *story) checkDueTicks() {
	byName := make(map[string]int)
	for _, job := range s.jobs {
		if job.Type == "Tick" {
			byName[strings.Fields(job.Key)[1]]++
		}
	}
	due, got := 0, 0
	for i, every := range s.ticks {
		d := 1 + max(0, int((s.calm-s.begun-int64(time.Second))/int64(every)))
		due += d
		got += min(d, byName[fmt.Sprintf("torture-%d", i)])
	}
	s.Logf("ticks: %d of %d due ones were enqueued (%d %%)", got, due, 100*got/due)
	if got*100 < 95*due {
		s.Errorf("%d of %d due ticks were enqueued, want 95 %%", got, due)
	}
}

// checkDrains: who is told to end does so within its time to drain and a second.
func (s *story) checkDrains() {
	const drain = time.Second // see fleet.worker
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
		took := time.Duration(l.dead - s.afterStalls(e.At, l.dead))
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
