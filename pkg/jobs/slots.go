package jobs

import (
	"bytes"
	"context"
	"fmt"
	"runtime/pprof"
	"strings"
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
