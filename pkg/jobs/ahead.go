package jobs

import (
	"math"
	"time"
)

// A worker claims a little ahead of its slots: as many jobs more as are going to end
// while the next turn is under way, or the slots would stand empty until it comes back.
// What takes long is not claimed ahead, as none of it ends in the time of a turn.
const (
	maxAhead = 50 // in each pool
	// aheadTime is how much longer than a turn a job waits for a slot, where those that
	// run take longer than others did. Then it is given back.
	aheadTime = 100 * time.Millisecond
)

// ahead is what a worker may claim.
type ahead struct {
	pools []room
	asked time.Time     // when the last turn began
	took  time.Duration // that turn
}

// room is that of one pool.
type room struct {
	slots int
	held  int // attempts, also those that wait for a slot
	ended int // since the last turn began
	ahead int // how many more than slots may be held
}

func newAhead(pools []Pool) *ahead {
	a := &ahead{}
	for _, p := range pools {
		a.pools = append(a.pools, room{slots: p.Free})
	}
	return a
}

// starts counts an attempt that is held from now on.
func (a *ahead) starts(pool int) { a.pools[pool].held++ }

// ends counts one that is held no longer; ran says that it has had a slot.
func (a *ahead) ends(pool int, ran bool) {
	a.pools[pool].held--
	if ran {
		a.pools[pool].ended++
	}
}

// turn notes that a turn begins. What ends during the time of a turn is taken from
// what has ended since the last one began.
func (a *ahead) turn(now time.Time) {
	part := float64(a.took) / float64(max(now.Sub(a.asked), a.took, 1))
	for i := range a.pools {
		p := &a.pools[i]
		p.ahead = min(int(math.Round(part*float64(p.ended))), maxAhead)
		if p.slots == 1 {
			p.ahead = 0 // one after the other, each the best when it begins
		}
		p.ended = 0
	}
	a.asked = now
}

// turned notes that the turn is over.
func (a *ahead) turned() { a.took = time.Since(a.asked) }

// patience is how long a job may wait for a slot.
func (a *ahead) patience() time.Duration { return a.took + aheadTime }

// into writes what may be claimed into pools.
func (a *ahead) into(pools []Pool) {
	for i, p := range a.pools {
		pools[i].Free = max(0, p.slots+p.ahead-p.held)
		pools[i].Ahead = pools[i].Free - max(0, p.slots-p.held)
	}
}
