package sqlite

import (
	"time"

	"golang.org/x/sys/unix"
)

// baton is a queue in front of SQLite's write lock. The lock itself has no queue and
// wakes nobody when it falls free: after each transaction the whole fleet would still
// be asleep, and then another process would go on, with a cold cache. Whoever holds
// the baton may write for a while; whoever passes it on wakes the process that has
// waited longest.
//
// It is an open file description lock on byte 0 of the seats' file, which is no
// worker's byte: the kernel drops it when its holder dies. No promise depends on it.
// A program that knows nothing of it writes all the same, and a holder that does
// nothing (it was stopped) is not waited for.
type baton struct {
	seats   *seatFile
	writing func() bool
	sleepers
	held  bool
	yield uint32 // the count at which another was woken for it; 0: none was
	stuck uint32 // the count at which a holder was seen to do nothing; 0: none
}

const (
	batonByte = 0
	// batonLook is how long a process sleeps that nobody wakes: the holder may have died
	// without a word. If nobody has passed the baton on all that time, its holder is
	// taken for stuck, unless somebody is writing. Each look costs; a large fleet waits
	// long.
	batonLook = 200 * time.Millisecond
	// batonSlow is after how long the holder is taken for stuck where somebody is writing:
	// a disk may be slow, and all who go on without the baton then wait for SQLite's lock
	// in a throng. It is short, as who is in the way is to be named within 2 s (waits.go).
	batonSlow = 2 * batonLook
)

// newBaton is the baton of the processes that share the seats' file; writing says
// whether one of them is in a transaction.
func newBaton(seats *seatFile, writing func() bool) (b *baton, err error) {
	b = &baton{seats: seats, writing: writing}
	if b.sleepers, err = newSleepers(seats.file); err == nil && b.passes() == 0 {
		b.tell(1) // else the first of all could not be waited for
	}
	return b, err
}

// take returns once the process has the baton. It returns without it once its holder
// seems stuck, or goOn is false.
func (b *baton) take(goOn func() bool) {
	var last uint32
	var since time.Time
	if b.yield != 0 {
		b.sleep(b.yield, batonLook) // behind those who wait: the one that was woken takes a moment
		b.yield = 0
	}
	for goOn() {
		count := b.passes()
		if b.held = b.seats.lock(batonByte, unix.F_WRLCK) == nil; b.held {
			return
		}
		if count == b.stuck { // also 0: there is no telling whether it moves
			return
		}
		if count != last {
			last, since = count, time.Now()
		} else if waited := time.Since(since); waited >= batonSlow || waited >= batonLook && !b.writing() {
			b.stuck = count
			return
		}
		b.sleep(count, batonLook)
	}
	b.wake() // it may have been woken for the baton: let another have it
}

// pass lets the next one have the baton, if this process does.
func (b *baton) pass() {
	if !b.held {
		return
	}
	b.held = false
	_ = b.seats.lock(batonByte, unix.F_UNLCK) // fails only for arguments that are wrong
	// Two may count at once, as the baton is free: what matters is that it differs
	// from what a waiter read before it found the baton taken.
	next := max(1, b.passes()+1)
	b.tell(next)
	if b.wake() {
		b.yield = next
	}
}

// tell writes the count of passes.
func (b *baton) tell(passes uint32) {
	_ = setWord(b.seats.file, batonPasses, passes) // without it, waiters look by themselves
}

// passes counts how often the baton was passed on; 0: never, or there is no telling.
func (b *baton) passes() uint32 {
	count, _ := word(b.seats.file, batonPasses)
	return count
}
