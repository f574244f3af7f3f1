package jobs

import (
	"context"
	"runtime/pprof"
	"slices"
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

	mu      sync.Mutex // held for a moment only: a transaction waits for it (Ask)
	free    []int      // slots, by pool, at this moment: room hears of an ending later
	waiting []*attempt // not begun, first come first
	added   time.Time  // when the last of them came
	called  bool       // a goroutine was called and has not come yet
	stopped bool       // nothing more begins
	ended   []ending   // not taken
}

// ending is an attempt whose handler has returned.
type ending struct {
	pool    int
	ran     time.Duration
	outcome Outcome
	open    bool // the outcome is still to be handed in: Job.Commit has not done so
}

// newCrew makes a crew for the slots of pools. run runs one attempt to its end, and
// then calls ends.
func newCrew(run func(*attempt), pools []Pool) *crew {
	c := &crew{run: run, news: make(chan struct{}, 1), calls: make(chan struct{}), over: make(chan struct{})}
	for _, p := range pools {
		c.free = append(c.free, p.Free)
	}
	return c
}

// start has the attempts run, each as soon as its pool has a free slot.
func (c *crew) start(attempts []*attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = append(c.waiting, attempts...)
	c.added = time.Now()
	c.call()
}

// stop has nothing begin any more: what waits is to be withdrawn.
func (c *crew) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
}

// startable is the index of the attempt to begin next, -1 for none. mu is held.
func (c *crew) startable() int {
	if c.stopped {
		return -1
	}
	return slices.IndexFunc(c.waiting, func(a *attempt) bool { return c.free[a.pool] > 0 })
}

// call has one more goroutine work, if an attempt can begin and none was called that
// has not come yet. mu is held.
func (c *crew) call() {
	if c.called || c.startable() < 0 {
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
	over := false
	defer func() {
		if !over { // its handler has ended the goroutine: another is to take what waits for the slot
			c.mu.Lock()
			defer c.mu.Unlock()
			c.call()
			signal(c.news) // it may have ended too soon for that
		}
	}()
	for {
		for a := c.next(true); a != nil; a = c.next(false) {
			c.run(a)
		}
		pprof.SetGoroutineLabels(context.Background())
		select {
		case <-c.calls:
		case <-c.over:
			over = true
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
	i := c.startable()
	if i < 0 {
		return nil
	}
	a = c.waiting[i]
	c.waiting = slices.Delete(c.waiting, i, i+1)
	c.free[a.pool]--
	c.call()
	if len(c.ended) > 0 && !c.tooSoon() {
		signal(c.news)
	}
	return a
}

// ends notes that an attempt has ended.
func (c *crew) ends(e ending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = append(c.ended, e)
	c.free[e.pool]++
	if !c.tooSoon() { // else with the last that begins
		signal(c.news)
	}
}

// beginTime bounds what a turn waits for attempts that are about to begin. It is little
// beside a commit.
const beginTime = 100 * time.Microsecond

// tooSoon says that a turn should wait, as attempts came just now and more can begin.
// Short handlers are done in a moment, and one commit for all costs less than a second
// one for the late. On a busy machine beginTime ends the wait. mu is held.
func (c *crew) tooSoon() bool { return c.startable() >= 0 && time.Since(c.added) < beginTime }

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

// withdraw takes back the attempts that came before then and for which there is no slot,
// or all that have not begun.
func (c *crew) withdraw(then time.Time, all bool) (late []*attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = slices.DeleteFunc(c.waiting, func(a *attempt) bool {
		if !all && (c.free[a.pool] > 0 || !a.claimed.Before(then)) {
			return false
		}
		late = append(late, a)
		return true
	})
	return late
}

// oldest is when the first of the attempts came for which there is no slot; zero: there
// is none.
func (c *crew) oldest() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.waiting {
		if c.free[a.pool] == 0 {
			return a.claimed
		}
	}
	return time.Time{}
}
