package handlers

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// RunGuardIfAsked is the guard's process: where it was started by Guard.Start,
// it returns true after its worker has ended and nothing of that worker's
// commands runs, and main must return then. Call it before all else.
func RunGuardIfAsked() bool {
	if len(os.Args) == 0 || os.Args[0] != guardName {
		return false
	}
	// Who stops a worker by a signal to all of its service stops the guard by
	// stopping the worker.
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2)
	_ = os.WriteFile("/proc/self/comm", []byte(guardName), 0) // else "exe", and not on every system
	closeInherited()
	_, _ = os.Stdout.WriteString("ready\n")
	os.Stdout.Close()

	// The lock's descriptor is closed by the end of the process, and not before.
	d := duty{groups: make(map[int]bool)}
	d.listen(4)
	d.kill()
	for pgid := range d.groups {
		awaitGroup(pgid)
	}
	return true
}

// duty is what a guard knows.
type duty struct {
	groups map[int]bool // the worker's; true: killed
	until  int64        // when they are to be killed, on the kernel's clock; ms
}

// listen does what the worker says until it is gone. What has been said is
// heard before the clock is asked: a guard that comes late to its turn does not
// mistake a worker for one that has fallen silent.
func (d *duty) listen(worker int) {
	var text []byte
	buf := make([]byte, 64<<10) // all that fits into a pipe
	for {
		said, err := unix.Poll([]unix.PollFd{{Fd: int32(worker), Events: unix.POLLIN}}, d.wait())
		if said > 0 {
			var n int
			if n, err = unix.Read(worker, buf); n == 0 && err == nil {
				return
			}
			text = append(text, buf[:max(n, 0)]...)
		}
		if err != nil && err != unix.EINTR {
			return
		}
		for {
			line, rest, whole := bytes.Cut(text, []byte("\n"))
			if !whole {
				break
			}
			d.hear(line)
			text = rest
		}
		if kernelMillis() >= d.until {
			d.kill()
		}
	}
}

func (d *duty) hear(line []byte) {
	var sign byte
	var n int64
	if _, err := fmt.Sscanf(string(line), "%c%d", &sign, &n); err != nil {
		return
	}
	switch sign {
	case '+':
		d.groups[int(n)] = false
	case '-':
		delete(d.groups, int(n))
	case '=':
		d.until = n
	case '!':
		d.kill()
	}
}

// wait is how long to listen for, in poll(2)'s milliseconds: -1 is for ever.
func (d *duty) wait() int {
	for _, killed := range d.groups {
		if !killed {
			return int(max(0, min(d.until-kernelMillis(), math.MaxInt32)))
		}
	}
	return -1
}

// kill kills the groups that were not yet. They stay known until the worker
// says that they have ended: until it has waited for their shells their numbers
// are nobody else's.
func (d *duty) kill() {
	for pgid, killed := range d.groups {
		if !killed {
			_ = unix.Kill(-pgid, unix.SIGKILL)
			d.groups[pgid] = true
		}
	}
}

// closeInherited closes what the worker was given by whoever started it, and
// passed on without knowing: a reader at the other end would wait for the
// guard. What this process opened itself is marked to be closed on exec.
func closeInherited() {
	open, _ := os.ReadDir(descriptors)
	for _, entry := range open {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil || fd <= 4 {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			_ = unix.Close(fd)
		}
	}
}

// awaitGroup returns when nothing of a killed process group runs any more.
func awaitGroup(pgid int) {
	for pause := time.Millisecond; !ended(pgid); pause = min(2*pause, 100*time.Millisecond) {
		time.Sleep(pause)
	}
}
