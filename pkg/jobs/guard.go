package jobs

import (
	"os"
	"time"

	"github.com/shoal-project/shoal/pkg/lease"
)

// Guard ends what handlers run outside of the worker's process (commands) where
// the worker can't do that itself: because it died, or because it is stopped
// and its lease ends.
type Guard interface {
	// Start is handed the open file whose lock is the worker's seat; see Info.
	Start(lock *os.File) error
	// Trust says until when the worker's leases can be relied on. When that
	// moment has come and no later one was named before it, all that runs is to
	// be ended: soon after it another may have the jobs. The last word counts,
	// also where it is an earlier time.
	Trust(until time.Time)
}

// vouch tells the guard. r.mu is held: the words must come in their order.
func (r *run) vouch(until time.Time) {
	if r.opts.Guard != nil {
		r.vouched = until
		r.opts.Guard.Trust(until)
	}
}

// renewed notes that the leases of what is held were extended, having been
// asked for at asked, and tells the guard so.
func (r *run) renewed(holding []Holding, asked time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range holding {
		if a := r.held[h.Ref]; a != nil {
			a.renewed(h.Progress)
		}
	}
	until, now := asked.Add(lease.Trust(r.opts.Lease)), time.Now()
	for _, a := range r.held {
		// A claim that the renewal did not cover is trusted no longer than before. One
		// whose time has passed is lost (expire), and no longer counts.
		if a.until.After(now) {
			until = earlier(until, a.until)
		}
	}
	r.vouch(until)
}
