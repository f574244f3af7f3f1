package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// kernelClock is slewed by NTP but never stepped, for all processes alike.
const kernelClock = unix.CLOCK_MONOTONIC

// namespaceOffset returns what the time namespace of this process adds to
// CLOCK_MONOTONIC, see time_namespaces(7); zero on a kernel without them.
func namespaceOffset() (time.Duration, error) {
	own, err := os.Readlink("/proc/self/ns/time")
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	// The offsets in /proc are those of the namespace that the children will
	// be in. Up to Linux 5.19 that is another one after an unshare without a
	// fork, and nothing tells our own.
	children, err := os.Readlink("/proc/self/ns/time_for_children")
	if err != nil {
		return 0, err
	}
	if own != children {
		return 0, errors.New("this process left its time namespace but is not yet in the new one; start it with unshare --fork")
	}
	text, err := os.ReadFile("/proc/self/timens_offsets")
	if err != nil {
		return 0, err
	}
	return parseOffset(string(text))
}

// parseOffset picks the monotonic line, "monotonic <seconds> <nanoseconds>",
// out of timens_offsets. The nanoseconds count upwards also when the seconds
// are negative.
func parseOffset(text string) (time.Duration, error) {
	for line := range strings.Lines(text) {
		var clock string
		var sec, nsec int64
		if n, _ := fmt.Sscan(line, &clock, &sec, &nsec); n == 3 && clock == "monotonic" {
			return time.Duration(sec)*time.Second + time.Duration(nsec), nil
		}
	}
	return 0, fmt.Errorf("no monotonic offset in %q", text)
}
