package jobs

import (
	"math"
	"time"
)

// A worker claims a little ahead of its slots: as many jobs more as are going to end
// while the next turn is under way, or the slots would stand empty until it comes back.
// That is told by what ended in the time of the last turn, and had not run for longer.
const (
	maxAhead = 50 // in each pool
	// aheadTime is how much longer than a turn a job waits for a slot, where those that
	// run take longer than others did. Then it is given back.
	aheadTime = 100 * time.Millisecond
)

// room is what a worker has room for: its Want, as of now, and what that is counted from.
type room struct {
	Want
	pools []poolRoom    // of Pools
	asked time.Time     // when the last turn began
	took  time.Duration // that turn
}

type poolRoom struct {
	slots int
	ahead int // how many more than slots may be held
	held  int // attempts, also those that wait for a slot
	ended int // since the last turn began, soon after they had begun
}

// newRoom is that of a worker that holds nothing yet: all the slots are free.
func newRoom(want Want) *room {
	r := &room{Want: want}
	for _, p := range want.Pools {
		r.pools = append(r.pools, poolRoom{slots: p.Free})
	}
	return r
}

// starts counts an attempt that is held from now on.
func (r *room) starts(pool int) {
	r.pools[pool].held++
	r.count()
}

// ends counts one that is held no longer. ran is how long it ran: what takes longer than
// a turn is nothing to claim ahead for, even if many end together.
func (r *room) ends(pool int, ran time.Duration) {
	r.gone(pool)
	if ran <= min(r.took, aheadTime) {
		r.pools[pool].ended++
	}
}

// gone counts one that is held no longer and has had no slot.
func (r *room) gone(pool int) {
	r.pools[pool].held--
	r.count()
}

// turn notes that a turn begins. What ends during the time of a turn is taken from
// what has ended since the last one began.
func (r *room) turn(now time.Time) {
	part := float64(r.took) / float64(max(now.Sub(r.asked), r.took, 1))
	for i := range r.pools {
		p := &r.pools[i]
		if p.slots > 1 { // else one after the other, each the best when it begins
			p.ahead = min(int(math.Round(part*float64(p.ended))), maxAhead)
		}
		p.ended = 0
	}
	r.asked = now
	r.count()
}

// turned notes that the turn is over.
func (r *room) turned() { r.took = time.Since(r.asked) }

// count brings the Want up to date. What is held may be more than was to be
// claimed ahead, as that changes with each turn.
func (r *room) count() {
	r.Held = 0
	for i, p := range r.pools {
		r.Held += p.held
		free := max(0, p.slots+p.ahead-p.held)
		r.Pools[i].Free, r.Pools[i].Ahead = free, free-max(0, p.slots-p.held)
	}
}

// patience is how long a job may wait for a slot. A turn that waited long for the store
// says nothing of the next one.
func (r *room) patience() time.Duration { return min(r.took, time.Second) + aheadTime }
