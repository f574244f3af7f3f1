//go:build !linux

package handlers

import (
	"os"

	"golang.org/x/sys/unix"
)

// descriptors is the folder of the process's open ones.
const descriptors = "/dev/fd"

// kernelClock is the one of Go's timers, which stands still while the machine
// sleeps: waking up is no reason to kill.
const kernelClock = unix.CLOCK_UPTIME_RAW

// ownBinary names the binary that runs.
func ownBinary() (string, error) { return os.Executable() }

// awaitExit returns when the child has exited, and leaves it to be waited for.
func awaitExit(pid int) {
	queue, err := unix.Kqueue()
	if err != nil {
		return
	}
	defer unix.Close(queue)
	exit := make([]unix.Kevent_t, 1)
	unix.SetKevent(&exit[0], pid, unix.EVFILT_PROC, unix.EV_ADD|unix.EV_ONESHOT)
	exit[0].Fflags = unix.NOTE_EXIT
	for {
		// A child that is a zombie already is ESRCH.
		if _, err := unix.Kevent(queue, exit, exit, nil); err != unix.EINTR {
			return
		}
	}
}

// ended says whether nothing of a process group that was killed runs any more.
// It kills again: these kernels don't promise that no process forks meanwhile.
func ended(pgid int) bool { return unix.Kill(-pgid, unix.SIGKILL) != nil }
