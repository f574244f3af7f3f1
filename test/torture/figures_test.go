//go:build linux

package torture_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// recovery is how long a job waited for another worker after its own was hit.
type recovery struct {
	job   int64
	hit   int64
	wait  time.Duration // less the time in which nobody could write
	still bool          // there was such a time
	by    *life
	stop  bool
}

// recoveries are those of the jobs that a process held when it was killed, or
// stopped for longer than its lease.
func (s *story) recoveries() (list []recovery, struckTwice int) {
	handled := make(map[ref]int64)
	for _, c := range s.calls["handle"] {
		handled[c.attempt()] = c.from
	}
	for _, e := range s.errors {
		if e.Ending == "failed" || s.jobs[e.Job] == nil {
			continue
		}
		r := e.attempt()
		l := s.bySeat[e.Worker]
		if l == nil || s.jobs[e.Job].Token == e.Token {
			continue // its attempts were used up
		}
		again, ok := s.claims[r.next()]
		hit, stop := l.killed, false
		if e.Ending == "stuck" && ok && !l.killedAwake(s.reaped(r).to) {
			// The stop in which the lease ended: the last before it ran again.
			stop = true
			for _, st := range l.stops {
				if st.from < again.to {
					hit = st.from
				}
			}
		}
		if hit == 0 {
			continue // its guard was killed, or it ended by itself
		}
		at := handled[r.next()]
		if again.Type == "Exec" { // nobody notes the beginning of a command
			at = again.to
		}
		if !ok || at == 0 || slices.ContainsFunc(again.by.stops, func(st span) bool { return st.from < at && st.to > again.from }) {
			struckTwice++ // who took it over was hit, too, or waited for the file
			continue
		}
		still := s.standstill(hit, at)
		list = append(list, recovery{job: r.ID, hit: hit, wait: time.Duration(at - hit - still), still: still > 0, by: l, stop: stop})
	}
	return list, struckTwice
}

// killedAwake says that the process was killed by then, and not in a stop: whatever
// the reaper took it for, it was dead.
func (l *life) killedAwake(by int64) bool {
	return l.killed != 0 && l.killed < by &&
		!slices.ContainsFunc(l.stops, func(st span) bool { return st.from < l.killed && st.to >= l.killed })
}

// figures prints what the faults were and what they cost.
func (s *story) figures() {
	s.Helper()
	open := s.openAttempts()
	kills, busy, stops, past, stalls, hosts := 0, 0, 0, 0, 0, 0
	for _, l := range s.lives {
		if strings.HasPrefix(l.name, "host-") {
			hosts++
		}
		if l.killed != 0 && l.seat != 0 {
			kills++
			if open[l] {
				busy++
			}
		}
		for _, st := range l.stops {
			if slices.ContainsFunc(l.stalls, func(x span) bool { return x.from == st.from }) {
				stalls++
				continue
			}
			stops++
			if st.to-st.from > int64(s.lease) {
				past++
			}
		}
	}
	list, twice := s.recoveries()
	var killed, stopped, still []time.Duration
	for _, r := range list {
		if r.still {
			still = append(still, r.wait)
		} else if r.stop {
			stopped = append(stopped, r.wait)
		} else {
			killed = append(killed, r.wait)
		}
	}
	s.Logf("faults: %d SIGKILL of workers, %d (%d %%) of them with running jobs; %d SIGSTOP, %d past the lease; %d stops inside a commit",
		kills, busy, 100*busy/max(1, kills), stops, past, stalls)
	if s.guest {
		s.Logf("%d of the host's workers were killed or stopped", hosts)
	}
	s.Logf("recovery of a killed worker's jobs: %s; of a stopped one's: %s (lease %v)", distribution(killed), distribution(stopped), s.lease)
	s.Logf("recovery around a standstill of the file, less its time: %s; %d were struck again, or claimed too late to begin, before they ran", distribution(still), twice)
	limit := time.Second
	if raceDetector {
		limit = 3 * time.Second // it slows everything down
	}
	var slow []string
	for _, r := range list {
		most := limit
		if r.stop {
			most += s.lease
		}
		if r.still && r.stop { // then everybody is given time to renew first
			most += 2 * time.Second
		}
		if r.wait > most || r.wait < 0 {
			slow = append(slow, fmt.Sprintf("job %d of %v ran again after %v, want %v at most (at %.3f s)", r.job, r.by, r.wait, most, float64(r.hit-s.begun)/1e9))
		}
	}
	s.complain("slow recovery", slow)
	if kills >= 10 && busy*100 < 60*kills {
		s.Errorf("%d of %d kills hit a worker with running jobs, want 60 %%", busy, kills)
	}
}

// openAttempts says which processes were killed with a job in their hands: one
// of which the end was not accepted.
func (s *story) openAttempts() map[*life]bool {
	open := maps.Clone(s.claims)
	for _, op := range []string{"turn", "finish"} {
		for _, c := range s.calls[op] {
			for _, o := range c.Outcomes {
				if c.answered() {
					delete(open, o.ref)
				}
			}
		}
	}
	busy := make(map[*life]bool)
	for _, c := range open {
		busy[c.by] = true
	}
	return busy
}

func distribution(list []time.Duration) string {
	if len(list) == 0 {
		return "none"
	}
	slices.Sort(list)
	at := func(q int) time.Duration { return list[(len(list)-1)*q/100].Round(time.Millisecond) }
	return fmt.Sprintf("%d, median %v, p99 %v, maximum %v", len(list), at(50), at(99), at(100))
}
