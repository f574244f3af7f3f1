package handlers

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// Guard is a worker's hold on its commands when the worker itself can't reach
// them. It is a process, the worker's own binary, that shares the lock which is
// the worker's seat. It is told of each process group before its command
// begins, and of each moment until which the worker's leases can be trusted.
//
// When the worker is gone the guard kills the groups that are left, waits until
// nothing of them runs, and only then ends and thereby gives up its share of the
// lock: a seat that has fallen free has no command running. When the worker is
// only stopped, it lets the moment pass without naming a later one: then the
// guard kills the groups, a tenth of the lease before another can have a job.
//
// It does not help where it is itself killed, or stopped, together with the
// worker. Its methods may be called by several goroutines.
type Guard struct {
	done chan struct{}

	mu      sync.Mutex
	process *os.Process // nil before Start
	// tell takes a line for each change: "+PGID", "-PGID", "=UNTIL" for what Trust
	// was told, or "!0" to kill the groups at once; nil but between Start and Stop.
	tell *os.File
	// On the kernel's clock, in ms: until when the leases are trusted, and when
	// that was last found to have passed.
	until, lapsed int64
}

var _ jobs.Guard = (*Guard)(nil)

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

var (
	errGuardGone = errors.New("the guard process has ended")
	// errLapsed is no fault of the command's: it is to run again, uncounted.
	errLapsed = fmt.Errorf("the worker stood still for almost its lease: %w", jobs.Snooze(100*time.Millisecond))
)

// NewGuard makes a guard; Start starts its process, and no command begins
// before Trust was told a moment that is still to come.
func NewGuard() *Guard { return &Guard{done: make(chan struct{})} }

// Start implements jobs.Guard, once. It fails where main doesn't begin with
// RunGuardIfAsked.
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

// Trust implements jobs.Guard.
func (g *Guard) Trust(until time.Time) {
	// The clock is read before it is asked how much is left: who is stopped in
	// between names too early a moment, never one too late.
	now := kernelMillis()
	moment := now + time.Until(until).Milliseconds()
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.trusted() {
		// A moment that has passed can't be taken back: what ran then is ended.
		g.lapsed = now
		_ = g.say('!', 0)
	}
	g.until = moment
	_ = g.say('=', moment)
}

func (g *Guard) trusted() bool { return kernelMillis() < g.until }

// add tells the guard of a process group. Once it returns nil the group is
// killed after the worker, as what is in a pipe outlives its writer, and when
// trust ends. errLapsed says that it has ended already.
func (g *Guard) add(pgid int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.say('+', int64(pgid)); err != nil {
		return err
	}
	if !g.trusted() { // asked after the guard was told: who is stopped now has told it in time
		return errLapsed
	}
	return nil
}

// remove has the guard forget a group of which nothing runs any more, before
// its number becomes another's.
func (g *Guard) remove(pgid int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	_ = g.say('-', int64(pgid))
}

// lapsedSince says whether trust has ended at some time since then, on the
// kernel's clock, so that the guard has killed what ran.
func (g *Guard) lapsedSince(then int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lapsed > then || !g.trusted()
}

func (g *Guard) say(sign rune, n int64) error {
	if g.tell == nil {
		return errors.New("the guard process is not running")
	}
	_ = g.tell.SetWriteDeadline(time.Now().Add(guardPatience))
	if _, err := fmt.Fprintf(g.tell, "%c%d\n", sign, n); err != nil {
		// One that misses a line would let a command live, or kill a stranger.
		_ = g.process.Kill()
		return fmt.Errorf("%w: %w", errGuardGone, err)
	}
	return nil
}

// kernelMillis is the time on the clock that the worker and its guard share.
func kernelMillis() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(kernelClock, &ts); err != nil {
		// It is there on every kernel that the store runs on; a guess would let commands live.
		panic(fmt.Sprintf("guard's clock: %v", err))
	}
	return ts.Nano() / 1e6
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
