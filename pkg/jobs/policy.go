package jobs

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"time"
)

// Policy is what holds for the jobs of a type, or of a queue, in the whole
// fleet. A field that is zero says nothing. For attempts, timeout and retries
// the first that says something counts: the job itself, the operator for its
// type, the operator for its queue, the handler, the worker's options. A limit
// or a pause of the type holds beside that of the queue.
type Policy struct {
	MaxAttempts int
	Timeout     time.Duration // of an attempt
	Retry       RetryPolicy
	// MaxRunning bounds how many jobs are running at once in the whole fleet. One
	// that is cancelled, or was taken from its worker, is not running any more,
	// though its handler may take a moment to end.
	MaxRunning int
	// MaxStarts bounds how many attempts begin in any span of time. Those that began
	// before it was set do not count.
	MaxStarts Rate
	// Paused lets none begin; what runs goes on. Only operators pause.
	Paused bool
	// Backoff, in place of Retry, is how long a job waits that is tried again after its
	// nth attempt failed with err. Only a handler brings one; an operator's Retry.Delay
	// goes before it.
	Backoff func(attempt int, err error) time.Duration
}

// RetryPolicy says how long a job waits after a failed attempt.
type RetryPolicy struct {
	Delay  time.Duration // after the first; it doubles with each
	Cap    time.Duration // doubling ends here, or at Delay where that is longer; 0: an hour
	Jitter float64       // each wait, Cap's too, is up to this part of it shorter or longer; 0: 0.1; negative: none
}

// Rate is a number of attempts in any span of Per. The zero value: no bound.
type Rate struct {
	N   int
	Per time.Duration
}

// The defaults of RetryPolicy, beside the worker's own for Delay.
const (
	retryCap    = time.Hour
	retryJitter = 0.1
)

// Or is r, with what b says where r says nothing.
func (r RetryPolicy) Or(b RetryPolicy) RetryPolicy {
	return RetryPolicy{Delay: cmp.Or(r.Delay, b.Delay), Cap: cmp.Or(r.Cap, b.Cap), Jitter: cmp.Or(r.Jitter, b.Jitter)}
}

// wait is how long a job waits after its nth failed attempt. The jitter keeps
// jobs that failed together from coming back together.
func (r RetryPolicy) wait(attempt int) time.Duration {
	r = r.Or(RetryPolicy{Cap: retryCap, Jitter: retryJitter})
	d := r.Delay
	for i := 1; i < attempt && d < r.Cap; i++ {
		d *= 2
	}
	d = min(d, max(r.Cap, r.Delay))
	return time.Duration(float64(d) * (1 + max(0, r.Jitter)*(2*rand.Float64()-1)))
}

// PolicyKind says what a policy is for.
type PolicyKind string

// The kinds of policies.
const (
	OfType  PolicyKind = "type"
	OfQueue PolicyKind = "queue"
)

// PolicyRow is a policy as it holds now, whoever said what of it, and how much of
// its limits is taken.
type PolicyRow struct {
	Kind PolicyKind
	Name string
	Policy
	Running int // where MaxRunning bounds that
	Started int // within the last MaxStarts.Per, where that is bounded
	// Opens is when MaxStarts lets the next attempt begin; zero: now.
	Opens time.Time
}

// Holds says whether jobs of the type in the queue come under the policy.
func (p PolicyRow) Holds(jobType, queue string) bool {
	return p.Kind == OfType && p.Name == jobType || p.Kind == OfQueue && p.Name == queue
}

// Check says in one line what is wrong with what an operator says of that type or
// queue.
func (p Policy) Check(kind PolicyKind, name string) error {
	wrong := func(format string, args ...any) error {
		return fmt.Errorf("%s %.40s: %s", kind, name, fmt.Sprintf(format, args...))
	}
	switch {
	case kind != OfType && kind != OfQueue:
		return fmt.Errorf("policy of a %q: want type or queue", kind)
	case checkName(string(kind), name) != nil:
		return checkName(string(kind), name)
	case p.Backoff != nil:
		return wrong("a backoff function is for a handler to bring")
	case p.MaxAttempts < 0:
		return wrong("max attempts is %d: at least 1", p.MaxAttempts)
	case p.Timeout < 0:
		return wrong("timeout is %v: it must be more than 0", p.Timeout)
	case p.Retry.Delay < 0 || p.Retry.Cap < 0:
		return wrong("retry delay %v, cap %v: they must be more than 0", p.Retry.Delay, p.Retry.Cap)
	case p.Retry.Jitter > 1:
		return wrong("retry jitter is %v: a part of the delay, such as 0.1", p.Retry.Jitter)
	case p.MaxRunning < 0:
		return wrong("max running is %d: at least 1, or pause it", p.MaxRunning)
	case p.MaxStarts != (Rate{}) && (p.MaxStarts.N < 1 || p.MaxStarts.Per < time.Millisecond):
		return wrong("max starts is %d in %v: want a number in a span of 1ms or more, such as 100 in 1m", p.MaxStarts.N, p.MaxStarts.Per)
	}
	return nil
}

// checkDefaults is Check for what a handler brings.
func checkDefaults(jobType string, p Policy) error {
	switch {
	case p.Paused:
		return fmt.Errorf("type %s: a handler can't pause its own type", jobType)
	case p.Backoff != nil && p.Retry != (RetryPolicy{}):
		return fmt.Errorf("type %s: its handler brings Backoff and Retry: want one of them", jobType)
	}
	p.Backoff = nil
	return p.Check(OfType, jobType)
}
