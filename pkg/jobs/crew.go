package jobs

import (
	"context"
	"runtime/pprof"
	"sync"
	"time"
)

// crew is the goroutines that run attempts. Each runs one after the other. While it
// runs one, another goroutine is ready to run the next: it does where this one's
// handler takes its time, and where it does not, there is no switch between
// goroutines, which costs as much as the rest of a short handler. So would a stack
// that grows with each.
type crew struct {
	run   func(*attempt)
	news  chan struct{} // attempts have ended, and no more are about to begin
	calls chan struct{} // to a goroutine that waits for an attempt to run
	over  chan struct{} // closed: they need not wait any more

	mu       sync.Mutex // held for a moment only: a transaction waits for it (Ask)
	starting []*attempt // nobody runs them yet
	started  time.Time  // when the last of them came
	called   bool       // a goroutine is to come and run one
	ended    []ending
}

// ending is an attempt whose handler has returned. Where its outcome is not the last
// word, Job.Commit has said that.
type ending struct {
	pool    int
	outcome Outcome
	last    bool
}

// newCrew is a crew whose run runs an attempt to its end, and tells ends of it.
func newCrew(run func(*attempt)) *crew {
	return &crew{run: run, news: make(chan struct{}, 1), calls: make(chan struct{}), over: make(chan struct{})}
}

func (c *crew) start(attempts []*attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.starting = append(c.starting, attempts...)
	c.started = time.Now()
	c.call()
}

// call has one more goroutine work, if there are attempts to start and none was
// called that has not come yet. mu is held.
func (c *crew) call() {
	if c.called || len(c.starting) == 0 {
		return
	}
	c.called = true
	select {
	case c.calls <- struct{}{}: // to one that waits
	default:
		go c.work()
	}
}

func (c *crew) work() {
	for {
		for a := c.next(true); a != nil; a = c.next(false) {
			c.run(a)
		}
		pprof.SetGoroutineLabels(context.Background())
		select {
		case <-c.calls:
		case <-c.over:
			return
		}
	}
}

// next is the attempt to run next; came says that this is the goroutine that was
// called.
func (c *crew) next(came bool) (a *attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if came {
		c.called = false
	}
	if len(c.starting) == 0 {
		return nil
	}
	a, c.starting[0] = c.starting[0], nil // its payload is not to stay
	c.starting = c.starting[1:]
	c.call()
	if len(c.starting) == 0 && len(c.ended) > 0 {
		signal(c.news)
	}
	return a
}

// ends notes that an attempt has ended.
func (c *crew) ends(e ending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = append(c.ended, e)
	if !c.tooSoon() { // else with the last that begins
		signal(c.news)
	}
}

// beginTime is little beside a commit.
const beginTime = 100 * time.Microsecond

// tooSoon says that handlers are about to begin: those that are as good as done end
// before the next turn, as one commit for all costs less than one more for those that
// came too late. It does not last where others need the processors. mu is held.
func (c *crew) tooSoon() bool { return len(c.starting) > 0 && time.Since(c.started) < beginTime }

// take moves what has ended into a slice, in place of what that held; nothing where it
// is too soon, unless now says that this does not matter.
func (c *crew) take(into []ending, now bool) []ending {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !now && c.tooSoon() {
		return into[:0]
	}
	select {
	case <-c.news: // known
	default:
	}
	into = append(into[:0], c.ended...)
	c.ended = c.ended[:0]
	return into
}
