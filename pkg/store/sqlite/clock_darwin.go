package sqlite

import (
	"time"

	"golang.org/x/sys/unix"
)

// kernelClock is the one that stands still while the machine sleeps, as
// Linux's CLOCK_MONOTONIC and the timers of Go do. CLOCK_MONOTONIC_RAW goes on
// there, and every lease would have ended on waking up.
const kernelClock = unix.CLOCK_UPTIME_RAW

// namespaceOffset is zero: there are no time namespaces.
func namespaceOffset() (time.Duration, error) { return 0, nil }
