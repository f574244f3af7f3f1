package jobs

import (
	"bytes"
	"context"
	"fmt"
	"runtime/pprof"
	"strings"
	"time"

	"go.uber.org/zap"
)

const (
	// stuckAfter is how long a handler may take to return once its context has
	// ended. Longer, and it is stuck: people are told, as its slot is lost until
	// it returns.
	stuckAfter = 5 * time.Second
	stuckEvery = time.Second
)

// slots number the handlers that run at once, and give each the labels by which
// its goroutine is found, in a profile of the application's too: "job_type", and
// "slot". A slot's labels are made once, as they cost more than a turn for a job.
type slots struct {
	parent   context.Context
	free     []int
	made     int
	labelled map[string][]context.Context // by type and slot; under parent
}

// under starts the labels anew, for contexts below parent.
func (s *slots) under(parent context.Context) {
	s.parent, s.labelled = parent, make(map[string][]context.Context)
}

// take is a free slot, and the parent of its attempt's context.
func (s *slots) take(jobType string) (slot int, ctx context.Context) {
	if n := len(s.free); n > 0 {
		slot, s.free = s.free[n-1], s.free[:n-1]
	} else {
		slot, s.made = s.made, s.made+1
	}
	of := s.labelled[jobType]
	if missing := slot + 1 - len(of); missing > 0 {
		of = append(of, make([]context.Context, missing)...)
		s.labelled[jobType] = of
	}
	if of[slot] == nil {
		of[slot] = pprof.WithLabels(s.parent, pprof.Labels("job_type", jobType, "slot", s.name(slot)))
	}
	return slot, of[slot]
}

// name is a slot's in the whole process, which may have several workers.
func (s *slots) name(slot int) string { return fmt.Sprintf("%d of %p", slot, s) }

// stacks are those of the slot's goroutines: the handler's, and others that it
// started and that have its labels.
func (s *slots) stacks(slot int) string {
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		return err.Error()
	}
	label := fmt.Sprintf("%q:%q", "slot", s.name(slot))
	var found []string
	for goroutines := range strings.SplitSeq(profile.String(), "\n\n") {
		if strings.Contains(goroutines, label) {
			found = append(found, goroutines)
		}
	}
	return clip(strings.Join(found, "\n\n"))
}

// watch looks for handlers that ignore the end of their contexts, logs each once
// with its stack, and has the store know how many there are.
func (r *run) watch(ctx context.Context) {
	told := 0
	for wait := stuckEvery; after(wait, ctx.Done()); {
		stuck := r.stuck(time.Now())
		if wait = stuckEvery; len(r.holding()) == 0 {
			wait = r.rest(calmEvery)
		}
		if stuck == told {
			continue
		}
		telling, cancel := context.WithTimeout(ctx, stuckEvery)
		err := r.seat.Stuck(telling, stuck)
		cancel()
		if err == nil {
			told = stuck
		} else if ctx.Err() == nil {
			r.log.Warn("can't tell how many handlers are stuck, trying again", zap.Error(err))
		}
	}
}

func (r *run) stuck(now time.Time) (n int) {
	r.mu.Lock()
	var news []*attempt
	for _, a := range r.held {
		switch {
		case !a.runs() || a.ctx.Err() == nil:
		case a.ignoring.IsZero():
			a.ignoring = now
		case now.Sub(a.ignoring) >= stuckAfter:
			n++
			if !a.reported {
				a.reported = true
				news = append(news, a)
			}
		}
	}
	r.mu.Unlock()
	for _, a := range news {
		r.log.Error("handler does not return though its context has ended: its slot is lost until it does",
			zap.Int64("job", a.ID), zap.String("type", a.Type), zap.Int64("token", a.Token), zap.Int("attempt", a.Attempt),
			zap.NamedError("cause", context.Cause(a.ctx)), zap.String("stack", r.slots.stacks(a.slot)))
	}
	return n
}
