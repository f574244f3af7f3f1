//go:build linux

package handlers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// A worker of these tests trusts its lease for trusted, and says so again and
// again, as one with a lease of 1 s would.
const trusted = 900 * time.Millisecond

// TestGuardOfStopped: when a worker is stopped, its commands and their children
// are gone by the moment until which it was trusted; not those of a worker that
// goes on. When it is continued, it runs commands as before.
func TestGuardOfStopped(t *testing.T) {
	const command = "echo $$ >>log; echo up >&9; sleep 1000 & (trap '' TERM; sleep 1000; true)"
	stopped, other := startVictim(t, command, "trusted"), startVictim(t, command, "trusted")
	stopped.awaitUp(t, 8)
	other.awaitUp(t, 8)
	if err := stopped.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	stopped.awaitNone(t)
	took := time.Since(begin)
	t.Logf("gone %v after the stop", took)
	if took < trusted/3 {
		t.Errorf("gone %v after the stop: it was trusted for longer", took)
	}
	if took > trusted+5*time.Second { // the guard itself waits for a processor
		t.Errorf("gone only %v after the stop", took)
	}
	if !running(other.pids()) {
		t.Error("the commands of a worker that goes on were killed")
	}
	before := len(stopped.pids())
	if err := stopped.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	stopped.awaitUp(t, 8)
	if after := len(stopped.pids()); after < before+8 {
		t.Errorf("%d commands, then %d: not 8 more", before, after)
	}
}

// TestGuardOfStoppedStarting stops workers that start commands all the time, at
// moments of every kind. Of what is begun on waking, before the worker is
// trusted again, nothing runs.
func TestGuardOfStoppedStarting(t *testing.T) {
	for range 5 {
		v := startVictim(t, "echo up >&9; sleep 0.01 & exec sleep 0.005", "trusted")
		v.awaitUp(t, 50)
		if err := v.Process.Signal(unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		v.awaitNone(t)
		// Whoever was stopped between the start of a shell and its go-ahead, too:
		// the guard has killed the shell, or the worker sees that it may not.
		if err := v.Process.Signal(unix.SIGCONT); err != nil {
			t.Fatal(err)
		}
		v.awaitUp(t, 20)
		if err := v.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		v.checkEnd(t)
	}
}

// TestGuardTrust: what a group is killed by, and what not.
func TestGuardTrust(t *testing.T) {
	soon := func() time.Time { return time.Now().Add(50 * time.Millisecond) }
	far := func() time.Time { return time.Now().Add(time.Hour) }
	for name, tt := range map[string]struct {
		say    func(g *Guard)
		killed bool
	}{
		"the moment comes":          {func(g *Guard) { g.Trust(soon()) }, true},
		"an earlier one counts":     {func(g *Guard) { g.Trust(far()); g.Trust(soon()) }, true},
		"a later one counts":        {func(g *Guard) { g.Trust(soon()); g.Trust(far()) }, false},
		"one that has passed":       {func(g *Guard) { g.Trust(time.Now()) }, true},
		"is not taken back":         {func(g *Guard) { g.Trust(time.Now()); g.Trust(far()) }, true},
		"the same a while ago":      {func(g *Guard) { g.Trust(time.Now().Add(-time.Hour)); g.Trust(far()) }, true},
		"a guard that comes late":   {sayTo(unix.SIGSTOP, far), false},
		"a guard that is told late": {sayTo(unix.SIGSTOP, time.Now), true},
		"late, and not taken back": {func(g *Guard) {
			_ = g.process.Signal(unix.SIGSTOP)
			g.Trust(time.Now())
			g.Trust(far())
			_ = g.process.Signal(unix.SIGCONT)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			g := startGuard(t)
			child := exec.Command("sleep", "1000")
			child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			if err := g.add(child.Process.Pid); err != nil {
				t.Fatal(err)
			}
			tt.say(g)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_ = child.Wait()
			}()
			if tt.killed {
				select {
				case <-ended:
				case <-time.After(20 * time.Second):
					t.Error("it lives")
				}
			} else {
				select {
				case <-ended:
					t.Error("it was killed")
				case <-time.After(200 * time.Millisecond):
				}
			}
			_ = child.Process.Kill()
			<-ended
			g.remove(child.Process.Pid)
		})
	}
}

// sayTo names a moment, and another before it has come, to a guard that stands
// still until both have passed or are said.
func sayTo(stop syscall.Signal, next func() time.Time) func(g *Guard) {
	return func(g *Guard) {
		_ = g.process.Signal(stop)
		g.Trust(time.Now().Add(20 * time.Millisecond))
		g.Trust(next())
		<-time.After(40 * time.Millisecond)
		_ = g.process.Signal(unix.SIGCONT)
	}
}

// TestExecLapsed: a command that was killed because its worker stood still, or
// that may not begin because of that, is no failed attempt.
func TestExecLapsed(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	g := startGuard(t)
	o := ExecOptions{Guard: g, Logger: zap.NewNop()}
	file := filepath.Join(t.TempDir(), "ran")
	g.Trust(time.Now().Add(300 * time.Millisecond))
	if _, err := o.run(ctx, "echo ran >"+file+"; sleep 1000", nil, os.Environ()); !errors.Is(err, errLapsed) {
		t.Errorf("a running command: %v", err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error("it did not run at all")
	}
	os.Remove(file)
	if err := g.process.Signal(unix.SIGSTOP); err != nil { // it does not help now
		t.Fatal(err)
	}
	if _, err := o.run(ctx, "echo ran >"+file, nil, os.Environ()); !errors.Is(err, errLapsed) {
		t.Errorf("a new command: %v", err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a command ran untrusted")
	}
	if err := g.process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	g.Trust(time.Now().Add(time.Hour))
	if _, err := o.run(ctx, "kill -KILL $$", nil, os.Environ()); err == nil || err.Error() != "killed by SIGKILL" {
		t.Errorf("a command that others killed: %v", err)
	}
	if out, err := o.run(ctx, "echo 1", nil, os.Environ()); string(out) != "1" || err != nil {
		t.Errorf("trusted again: %s, %v", out, err)
	}
}

// awaitNone returns when none of the victim's commands runs.
func (v *victim) awaitNone(t *testing.T) {
	t.Helper()
	for b, deadline := make([]byte, 4096), time.Now().Add(20*time.Second); ; {
		switch n, err := unix.Read(v.commands, b); {
		case n == 0 && err == nil:
			return
		case time.Now().After(deadline):
			t.Fatalf("commands still run: %v", v.pids())
		case n < 0:
			<-time.After(time.Millisecond)
		}
	}
}

// pids are those of the victim's commands, as they noted them.
func (v *victim) pids() []string { return strings.Fields(v.log()) }

// running says whether all of the processes are there.
func running(pids []string) bool {
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%s/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return false
		}
	}
	return len(pids) > 0
}
