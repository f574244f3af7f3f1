package handlers

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Guard is a worker's hold on its commands beyond its own death. It is a
// process, the worker's own binary, that shares the lock which is the worker's
// seat and is told of each process group before its command begins. When the
// worker is gone it kills the groups that are left, waits until nothing of them
// runs, and only then ends and thereby gives up its share of the lock: a seat
// that has fallen free has no command running.
//
// It does not help where it is itself killed together with the worker, nor
// while the worker is only stopped. Its methods may be called by several
// goroutines.
type Guard struct {
	done chan struct{}

	mu      sync.Mutex
	process *os.Process // nil before Start
	tell    *os.File    // a line for each change: "+PGID" or "-PGID"; nil but between Start and Stop
}

// guardName, as a process's name for itself, makes it a guard. It has nothing
// of the worker's, so that a "killall" of workers leaves the guard to its duty.
const guardName = "shoal-guard"

const (
	// guardPatience is how long the guard's process may take to begin, and to
	// make room in its pipe.
	guardPatience = 5 * time.Second
	// stopPatience is how long Stop waits: the guard needs nobody to end.
	stopPatience = 500 * time.Millisecond
)

var errGuardGone = errors.New("the guard process has ended")

// NewGuard makes a guard; Start starts its process.
func NewGuard() *Guard { return &Guard{done: make(chan struct{})} }

// Start starts the guard's process, once. lock is the open file whose lock is
// the worker's seat. It fails where main doesn't begin with RunGuardIfAsked.
func (g *Guard) Start(lock *os.File) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.process != nil {
		return errors.New("guard: was started already")
	}
	path, err := ownBinary()
	if err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	told, tell, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	defer told.Close()
	ready, sayReady, err := os.Pipe()
	if err != nil {
		tell.Close()
		return fmt.Errorf("guard: %w", err)
	}
	defer ready.Close()

	cmd := &exec.Cmd{
		Path:        path,
		Args:        []string{guardName, "of", strconv.Itoa(os.Getpid())},
		Dir:         "/",
		Stdout:      sayReady,
		ExtraFiles:  []*os.File{lock, told}, // descriptors 3 and 4
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	err = cmd.Start()
	sayReady.Close()
	if err != nil {
		tell.Close()
		return fmt.Errorf("guard: %w", err)
	}
	g.process, g.tell = cmd.Process, tell
	go func() {
		defer close(g.done)
		_ = cmd.Wait() // the guard's end is the news, not how it ended
	}()
	_ = ready.SetReadDeadline(time.Now().Add(guardPatience))
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		_ = g.process.Kill()
		tell.Close()
		g.tell = nil
		return fmt.Errorf("guard: %s did not become one: its main must begin with handlers.RunGuardIfAsked: %w", path, err)
	}
	return nil
}

// Done is closed when the guard's process has ended. If that was before Stop,
// the worker must stop too: nothing would end its commands after it.
func (g *Guard) Done() <-chan struct{} { return g.done }

// Stop ends the guard's process, and with it all commands that still run. Where
// the kernel can't end one within 500 ms, it leaves the guard behind with it.
func (g *Guard) Stop() {
	g.mu.Lock()
	tell := g.tell
	g.tell = nil
	g.mu.Unlock()
	if tell == nil {
		return
	}
	tell.Close()
	select {
	case <-g.done:
	case <-time.After(stopPatience):
	}
}

// add tells the guard of a process group. Once it returns nil the group is
// killed after the worker, as what is in a pipe outlives its writer.
func (g *Guard) add(pgid int) error { return g.say('+', pgid) }

// remove has the guard forget a group of which nothing runs any more, before
// its number becomes another's.
func (g *Guard) remove(pgid int) { _ = g.say('-', pgid) }

func (g *Guard) say(sign rune, pgid int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.tell == nil {
		return errors.New("the guard process is not running")
	}
	_ = g.tell.SetWriteDeadline(time.Now().Add(guardPatience))
	if _, err := fmt.Fprintf(g.tell, "%c%d\n", sign, pgid); err != nil {
		// One that misses a line would let a command live, or kill a stranger.
		_ = g.process.Kill()
		return fmt.Errorf("%w: %w", errGuardGone, err)
	}
	return nil
}

// awaitGo is what a shell runs in place of the command until the guard knows its
// group: without a line on descriptor 3, because the worker died, it exits.
const awaitGo = `read -r shoal_go <&3 || exit; exec 3<&-; exec /bin/sh -c "$1"`

// startHeld starts awaitGo. release lets the command begin or, with false, has
// the shell exit instead; it must be called.
func startHeld(cmd *exec.Cmd) (release func(bool), err error) {
	wait, goAhead, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer wait.Close()
	cmd.ExtraFiles = []*os.File{wait}
	if err := cmd.Start(); err != nil {
		goAhead.Close()
		return nil, err
	}
	return func(begin bool) {
		if begin {
			// It fails if the shell was killed meanwhile; its end will tell.
			_, _ = goAhead.WriteString("go\n")
		}
		goAhead.Close()
	}, nil
}

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
	groups := make(map[int]bool)
	for lines := bufio.NewScanner(os.NewFile(4, "worker")); lines.Scan(); {
		pgid, err := strconv.Atoi(lines.Text())
		switch {
		case err != nil:
		case pgid > 1:
			groups[pgid] = true
		default:
			delete(groups, -pgid)
		}
	}
	for pgid := range groups {
		_ = unix.Kill(-pgid, unix.SIGKILL)
	}
	for pgid := range groups {
		awaitGroup(pgid)
	}
	return true
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
