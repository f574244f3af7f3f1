//go:build linux

package torture_test

import (
	"fmt"
	"slices"
	"strings"
)

// check compares what was asked with what is there. Each complaint is a broken
// promise.
func (s *story) check(dir string) {
	s.Helper()
	s.checkWhole()
	s.checkEnqueues()
	s.checkOutcomes()
	s.checkAnswers()
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

func (s *story) checkWhole() {
	s.Helper()
	if got := query[map[string]string](s, s.db, `PRAGMA integrity_check`); len(got) != 1 || got[0]["integrity_check"] != "ok" {
		s.Errorf("integrity_check: %v", got)
	}
	if got := query[map[string]any](s, s.db, `SELECT queue, job_type, sum(jobs), sum(pending) FROM (SELECT * FROM sync_counts
		UNION ALL SELECT queue, job_type, -1, -(status = 'pending') FROM sync_jobs) GROUP BY 1, 2 HAVING sum(jobs) <> 0 OR sum(pending) <> 0`); len(got) > 0 {
		s.Errorf("the counts are wrong: %v", got)
	}
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
	var doubled, alien, shrunk []string
	for _, c := range s.turns() {
		for _, cl := range c.answer.Claimed {
			if other := claimedBy[cl.ref]; other != nil {
				doubled = append(doubled, fmt.Sprintf("job %d token %d was claimed by %s and by %s", cl.ID, cl.Token, other.name, c.by.name))
			}
			claimedBy[cl.ref] = c.by
		}
	}
	accepted := make(map[ref]string)
	late := 0
	say := func(c call, o outcome, yes bool) {
		if claimedBy[o.ref] != c.by {
			alien = append(alien, fmt.Sprintf("job %d token %d: %s of %s", o.ID, o.Token, o.Status, c.by.name))
		}
		if !yes {
			late++
			return
		}
		if before := accepted[o.ref]; before != "" {
			doubled = append(doubled, fmt.Sprintf("job %d token %d: %s by %s, before %s", o.ID, o.Token, o.Status, c.by.name, before))
		}
		accepted[o.ref] = o.Status + " by " + c.by.name
	}
	for _, c := range s.calls["turn"] {
		if !c.happened() {
			continue
		}
		for _, o := range c.Outcomes {
			say(c, o, !slices.Contains(c.answer.Refs, o.ref))
		}
	}
	for _, c := range s.calls["finish"] {
		if c.happened() || c.answer.Fate == refused {
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
	s.Logf("outcomes: %d accepted, %d doubled, %d late and refused; %d claims", len(accepted), len(doubled), late, len(claimedBy))
}

// checkAnswers: nothing that a worker asked of the file failed without a reason.
func (s *story) checkAnswers() {
	var wrong []string
	for _, op := range []string{"turn", "finish", "tick", "renew", "reap", "leave"} {
		for _, c := range slices.Concat(s.calls[op], s.events[op]) {
			if c.answered() && c.answer.Fate == failed && !s.excused(c) && !s.disturbed(c) {
				wrong = append(wrong, fmt.Sprintf("%s of %s (at %.3f s): %s", op, c.by.name, float64(c.from-s.begun)/1e9, c.answer.Err))
			}
		}
	}
	s.complain("a call failed without a reason", wrong)
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

// checkEnds: every job ended completed or, after exactly max_attempts, failed; but
// for a tick of the moment in which the workers were told to stop.
func (s *story) checkEnds() {
	var wrong []string
	ends := make(map[string]int)
	for _, job := range s.jobs {
		ends[job.Status]++
		ok := job.Status == "completed" && job.Attempts <= job.MaxAttempts ||
			job.Status == "failed" && job.Attempts == job.MaxAttempts ||
			job.Status == "pending" && job.Attempts == 0 && job.Type == "Tick" && job.ID > s.settled
		if !ok {
			wrong = append(wrong, fmt.Sprintf("job %d (%s) is %s after %d of %d attempts", job.ID, job.Type, job.Status, job.Attempts, job.MaxAttempts))
		}
	}
	s.complain("a job that did not end as it should", wrong)
	s.Logf("jobs: %v; %d attempts died with or were taken from their worker", ends, len(s.errors))
}
