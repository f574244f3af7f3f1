//go:build linux

package sqlite

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Another process reads a time between two of ours.
func TestLeaseClockIsShared(t *testing.T) {
	clock := newClock(t)
	before := clock.Now()
	c := startChild(t, "clock")
	told, _ := c.time()
	wantBetween(t, before, told, clock.Now())
}

// So does one in a time namespace of its own, whose CLOCK_MONOTONIC is more
// than a day ahead.
func TestLeaseClockInATimeNamespace(t *testing.T) {
	const ahead = 100_000 * time.Second
	if out, err := exec.Command("unshare", "--time", "--monotonic", "1", "--fork", "true").CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED, no time namespace can be made here: unshare: %v %s", err, out)
	}
	clock := newClock(t)
	before := clock.Now()
	t.Setenv("SHOAL_TEST_ROLE", "clock")
	c := startProgram(t, exec.Command("unshare", "--time", "--monotonic", fmt.Sprint(ahead.Seconds()), "--fork",
		os.Args[0], "-test.run=^TestMainOfChild$"))
	told, raw := c.time()
	after := clock.Now()
	wantBetween(t, before, told, after)
	wantBetween(t, before+ahead.Milliseconds(), raw, after+ahead.Milliseconds())
}

func TestParseOffset(t *testing.T) {
	const rest = "boottime          10         7\n"
	for text, want := range map[string]time.Duration{
		"monotonic           0         0\n" + rest: 0,
		"monotonic        1000 500000000\n" + rest: 1000*time.Second + 500*time.Millisecond,
		"monotonic         -10 500000000\n" + rest: -9*time.Second - 500*time.Millisecond,
	} {
		if got, err := parseOffset(text); err != nil || got != want {
			t.Errorf("parseOffset(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", rest, "monotonic 1\n"} {
		if got, err := parseOffset(text); err == nil {
			t.Errorf("parseOffset(%q) = %v, want an error", text, got)
		}
	}
}

func newClock(t *testing.T) leaseClock {
	t.Helper()
	clock, err := newLeaseClock()
	if err != nil {
		t.Fatal(err)
	}
	return clock
}

func wantBetween(t *testing.T, low, got, high int64) {
	t.Helper()
	if got < low || high < got {
		t.Errorf("read %d ms, want %d to %d", got, low, high)
	}
}

// tellTime is a child that prints the lease clock and CLOCK_MONOTONIC, in ms.
func tellTime([]string) error {
	clock, err := newLeaseClock()
	var ts unix.Timespec
	err = errors.Join(err, unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts))
	fmt.Println(clock.Now(), time.Duration(ts.Nano()).Milliseconds())
	return err
}

func (c *childProcess) time() (lease, raw int64) {
	c.t.Helper()
	if _, err := fmt.Sscan(c.line(), &lease, &raw); err != nil {
		c.t.Fatal(err)
	}
	return lease, raw
}
