package jobs

import (
	"context"
	"runtime/pprof"
	"sync"
	"time"
)

// crew runs attempts, on goroutines that it keeps for the next ones. A goroutine that
// takes an attempt first calls another for the rest, so that a slow handler holds
// nobody up. After a short handler it takes the next attempt itself, which saves a
// switch between goroutines, and the growing stack of a new one: either costs as much
// as the rest of a short handler.
type crew struct {
	run   func(*attempt)
	news  chan struct{} // wakes the turn loop: attempts have ended, or it is to look again
	calls chan struct{} // wakes a goroutine that has nothing to run
	over  chan struct{} // closed when nothing more will start: those goroutines end

	mu       sync.Mutex // held for a moment only: a transaction waits for it (Ask)
	starting []*attempt // not begun
	started  time.Time  // when the last of them was added
	called   bool       // a goroutine was called and has not come yet
	ended    []ending   // not taken
}

// ending is an attempt whose handler has returned.
type ending struct {
	pool    int
	outcome Outcome
	open    bool // the outcome is still to be handed in: Job.Commit has not done so
}

// newCrew makes a crew. run runs one attempt to its end, and then calls ends.
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

// beginTime bounds what a turn waits for attempts that are about to begin. It is little
// beside a commit.
const beginTime = 100 * time.Microsecond

// tooSoon says that a turn should wait, as attempts were started just now and not all
// have begun. Short handlers are done in a moment, and one commit for all costs less
// than a second one for the late. On a busy machine beginTime ends the wait. mu is held.
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
