package sqlite

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// leaseClock times leases. It reads the kernel's own count of the time since
// boot: nobody can set it, and all processes that share a WAL file share the
// kernel that counts, so that "until 4,711,000" means the same instant to each
// of them. It stands still while the machine sleeps (a lease does not end in
// the night) and starts again at every boot, when no seat is held any more and
// old lease times mean nothing. The zero value is right outside of time
// namespaces.
type leaseClock struct {
	offset time.Duration // what this process's time namespace adds to the kernel's count
}

// newLeaseClock finds out the offset, once: a running process can't change it.
func newLeaseClock() (leaseClock, error) {
	offset, err := namespaceOffset()
	if err == nil {
		err = unix.ClockGettime(kernelClock, new(unix.Timespec)) // so that Now can
	}
	return leaseClock{offset: offset}, wrapError("lease clock", err)
}

// Now returns milliseconds since boot, the same for every process on this
// kernel and never less than before.
func (c leaseClock) Now() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(kernelClock, &ts); err != nil {
		// newLeaseClock read this clock; a guess instead would give leases away.
		panic(fmt.Sprintf("lease clock: %v", err))
	}
	return (time.Duration(ts.Nano()) - c.offset).Milliseconds()
}
