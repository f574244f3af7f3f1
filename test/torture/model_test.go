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

// step is the model: a job's life, as the doc of package jobs draws it.
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
