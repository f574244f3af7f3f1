//go:build linux

package handlers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// The test binary is also the guard of the workers in these tests, and a worker
// that can be killed.
func TestMain(m *testing.M) {
	if RunGuardIfAsked() {
		return
	}
	if dir := os.Getenv("EXEC_TEST_WORKER"); dir != "" {
		fmt.Println(workAsVictim(dir, os.Getenv("EXEC_TEST_COMMAND"), os.Getenv("EXEC_TEST_MODE")))
		return
	}
	// A process with the race detector stays for a second after its end.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE")); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// workAsVictim locks a seat and runs the command in eight slots, again and again; as
// "trusted", with a lease of a moment; as "held", only to the point at which a
// shell waits for its go-ahead. It prints the guard's pid when it begins, and
// returns when the guard has ended.
func workAsVictim(dir, command, mode string) error {
	// Under nohup, or in a script's background, these would be ignored.
	mortal := make(chan os.Signal, 1)
	signal.Notify(mortal, syscall.SIGHUP, syscall.SIGINT)
	go func() {
		<-mortal
		os.Exit(1)
	}()
	lock, err := os.OpenFile(filepath.Join(dir, "seats"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := unix.FcntlFlock(lock.Fd(), unix.F_OFD_SETLK, seatLock(unix.F_WRLCK)); err != nil {
		return err
	}
	g := NewGuard()
	if err := g.Start(lock); err != nil {
		return err
	}
	g.Trust(time.Now().Add(time.Hour))
	if mode == "trusted" { // only while it is awake
		g.Trust(time.Now().Add(trusted))
		go func() {
			for range time.Tick(trusted / 3) {
				g.Trust(time.Now().Add(trusted))
			}
		}()
	}
	if mode == "held" {
		cmd := exec.Command("/bin/sh", "-c", awaitGo, "sh", command)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if _, err := startHeld(cmd); err != nil {
			return err
		}
	}
	fmt.Println(g.process.Pid)
	o := ExecOptions{Guard: g, Logger: zap.NewNop()}
	var slots sync.WaitGroup
	for range 8 {
		slots.Go(func() {
			for mode != "held" {
				if _, err := o.run(context.Background(), command, nil, os.Environ()); errors.Is(err, errGuardGone) {
					return
				}
			}
		})
	}
	<-g.Done()
	slots.Wait()
	return errors.New("guard gone")
}

func seatLock(lock int16) *unix.Flock_t { return &unix.Flock_t{Type: lock, Start: 7, Len: 1} }

// victim is a worker in a process of its own, leading its own group.
type victim struct {
	*exec.Cmd
	dir   string
	guard int
	said  *bufio.Reader
	// commands is a pipe that its commands have open for writing, as fd 9.
	commands int
	// any is a pipe that all its processes have open but the guard.
	any *os.File
}

func startVictim(t *testing.T, command, mode string) *victim {
	t.Helper()
	v := &victim{dir: t.TempDir()}
	fifo := filepath.Join(v.dir, "fifo")
	err := unix.Mkfifo(fifo, 0o600)
	if err == nil {
		v.commands, err = unix.Open(fifo, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	anyRead, anyWrite, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	v.any = anyRead
	v.Cmd = exec.Command("/proc/self/exe")
	v.Env = append(os.Environ(), "EXEC_TEST_WORKER="+v.dir, "EXEC_TEST_MODE="+mode,
		"EXEC_TEST_COMMAND=cd "+v.dir+"; exec 9>fifo; "+command)
	v.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	v.ExtraFiles = []*os.File{nil, nil, nil, nil, anyWrite} // as a supervisor leaves one open
	v.Stderr = os.Stderr
	out, err := v.StdoutPipe()
	if err == nil {
		err = v.Start()
	}
	anyWrite.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = v.Process.Kill()
		_ = v.Wait()
		unix.Close(v.commands)
		anyRead.Close()
	})
	v.said = bufio.NewReader(out)
	line, _ := v.said.ReadString('\n')
	if v.guard, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		t.Fatalf("worker: %q", line)
	}
	return v
}

// awaitUp returns when n commands have written "up" to their pipe.
func (v *victim) awaitUp(t *testing.T, n int) {
	t.Helper()
	for b := make([]byte, 4096); n > 0; {
		read, err := unix.Read(v.commands, b)
		if read > 0 {
			n -= strings.Count(string(b[:read]), "up\n")
			continue
		}
		if err != nil && err != unix.EAGAIN && err != unix.EINTR {
			t.Fatal(err)
		}
		select {
		case <-t.Context().Done():
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// checkEnd waits until the seat's byte is free and checks that no command runs
// at that moment, and that none begins after it.
func (v *victim) checkEnd(t *testing.T) {
	t.Helper()
	seats, err := os.OpenFile(filepath.Join(v.dir, "seats"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer seats.Close()
	free := make(chan error, 1)
	go func() {
		for {
			err := unix.FcntlFlock(seats.Fd(), unix.F_OFD_SETLKW, seatLock(unix.F_WRLCK))
			if err != unix.EINTR {
				free <- err
				return
			}
		}
	}()
	select {
	case err = <-free:
	case <-time.After(20 * time.Second):
		err = errors.New("it is still taken")
	}
	if err != nil {
		t.Fatalf("seat: %v", err)
	}
	for b, n := make([]byte, 4096), 1; n > 0; {
		n, err = unix.Read(v.commands, b)
	}
	if err != nil {
		t.Errorf("the seat is free, and a command still runs: %v", err)
	}
	begun := v.log()
	if rest, err := io.ReadAll(v.any); len(rest) > 0 || err != nil {
		t.Errorf("the pipe of all: %q, %v", rest, err)
	}
	if now := v.log(); now != begun {
		t.Errorf("a command began after the seat was free: %q, then %q", begun, now)
	}
}

func (v *victim) log() string {
	log, _ := os.ReadFile(filepath.Join(v.dir, "log"))
	return string(log)
}

// TestGuardOutlivesWorker: however a worker is ended, its seat is free only when
// its commands and their children have ended. One of them takes long to die, as
// it has much memory to give back.
func TestGuardOutlivesWorker(t *testing.T) {
	const command = "sleep 1000 & (sleep 1000; true) & { head -c 50000000 /dev/zero; echo up >&9; sleep 1000; } | tail"
	for name, end := range map[string]func(v *victim) error{
		"SIGKILL":          func(v *victim) error { return unix.Kill(v.Process.Pid, unix.SIGKILL) },
		"SIGKILL to group": func(v *victim) error { return unix.Kill(-v.Process.Pid, unix.SIGKILL) },
		"SIGTERM to group": func(v *victim) error { return unix.Kill(-v.Process.Pid, unix.SIGTERM) },
		"SIGINT to group":  func(v *victim) error { return unix.Kill(-v.Process.Pid, unix.SIGINT) },
		"SIGHUP to all": func(v *victim) error {
			for _, s := range []syscall.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGQUIT, unix.SIGHUP} {
				if err := unix.Kill(v.guard, s); err != nil {
					return err
				}
			}
			return unix.Kill(-v.Process.Pid, unix.SIGHUP)
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := startVictim(t, command, "")
			v.awaitUp(t, 8)
			if err := end(v); err != nil {
				t.Fatal(err)
			}
			v.checkEnd(t)
		})
	}
}

// TestGuardKilledAtAnyTime kills workers that start and end commands all the
// time, at moments of every kind.
func TestGuardKilledAtAnyTime(t *testing.T) {
	for range 30 {
		v := startVictim(t, "echo $$ >>log; echo up >&9; sleep 0.01 & exec sleep 0.005", "")
		v.awaitUp(t, rand.IntN(20))
		pause := time.NewTimer(rand.N(10 * time.Millisecond))
		<-pause.C
		if err := v.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		v.checkEnd(t)
	}
}

// TestGuardUntold kills a worker between the start of a shell and telling the
// guard of it: the command never begins.
func TestGuardUntold(t *testing.T) {
	v := startVictim(t, "echo began >>log", "held")
	if err := v.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	v.checkEnd(t)
	if v.log() != "" {
		t.Error("the command ran")
	}
}

// TestGuardKilled: a worker hears of its guard's end, ends its commands, and
// starts no others.
func TestGuardKilled(t *testing.T) {
	v := startVictim(t, "echo $$ >>log; echo up >&9; sleep 1000 & sleep 1000", "")
	v.awaitUp(t, 8)
	if err := unix.Kill(v.guard, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if line, err := v.said.ReadString('\n'); line != "guard gone\n" {
		t.Fatalf("worker said %q, %v", line, err)
	}
	v.checkEnd(t)

	g := startGuard(t)
	o := ExecOptions{Guard: g, Logger: zap.NewNop()}
	file := filepath.Join(t.TempDir(), "ran")
	ran := make(chan error)
	go func() {
		_, err := o.run(context.Background(), "echo ran >"+file+"; sleep 1000", nil, os.Environ())
		ran <- err
	}()
	for {
		if _, err := os.Stat(file); err == nil {
			break
		}
		<-time.After(time.Millisecond)
	}
	if err := g.process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := <-ran; !errors.Is(err, errGuardGone) {
		t.Errorf("a running command: %v", err)
	}
	os.Remove(file)
	if _, err := o.run(context.Background(), "echo ran >"+file, nil, os.Environ()); err == nil {
		t.Error("a new command: no error")
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a command ran unguarded")
	}
}

// TestGuardStop: a clean end leaves neither the guard nor its share of the lock.
func TestGuardStop(t *testing.T) {
	name := filepath.Join(t.TempDir(), "seats")
	lock, other := openFile(t, name), openFile(t, name)
	if err := unix.FcntlFlock(lock.Fd(), unix.F_OFD_SETLK, seatLock(unix.F_WRLCK)); err != nil {
		t.Fatal(err)
	}
	g := NewGuard()
	if err := g.Start(lock); err != nil {
		t.Fatal(err)
	}
	if err := g.Start(lock); err == nil {
		t.Error("started twice")
	}
	lock.Close()
	if err := unix.FcntlFlock(other.Fd(), unix.F_OFD_SETLK, seatLock(unix.F_WRLCK)); err == nil {
		t.Error("the guard has no share of the lock")
	}
	select {
	case <-g.Done():
		t.Error("done before Stop")
	default:
	}
	g.Stop()
	<-g.Done()
	if err := unix.FcntlFlock(other.Fd(), unix.F_OFD_SETLK, seatLock(unix.F_WRLCK)); err != nil {
		t.Errorf("after Stop: %v", err)
	}
	g.Stop()
	NewGuard().Stop()
}

// TestExecDescriptors: neither a command nor the guard has a descriptor that is
// not its own.
func TestExecDescriptors(t *testing.T) {
	v := startVictim(t, "cd /proc/$$/fd; for f in *; do readlink $f; done >$OLDPWD/log; echo up >&9; sleep 1000", "")
	v.awaitUp(t, 8)
	if log := v.log(); strings.Contains(log, "seats") {
		t.Errorf("a command has the seat's lock:\n%s", log)
	}
	folder := fmt.Sprintf("/proc/%d/fd", v.guard)
	open, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var has []string
	for _, fd := range open {
		to, _ := os.Readlink(filepath.Join(folder, fd.Name()))
		if what, _, _ := strings.Cut(to, ":"); what == "pipe" || len(fd.Name()) == 1 && fd.Name() < "5" { // beyond is the runtime's
			has = append(has, fd.Name()+" "+filepath.Base(what))
		}
	}
	if got := strings.Join(has, ", "); got != "0 null, 2 null, 3 seats, 4 pipe" {
		t.Errorf("the guard has %s", got)
	}
}

// TestExecTellsGuard: a group is told before its command begins and forgotten
// after its end, so that the guard kills nobody who has its number later.
func TestExecTellsGuard(t *testing.T) {
	told, tell, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer told.Close()
	g := NewGuard()
	g.until, g.tell = math.MaxInt64, tell
	pgid, err := ExecOptions{Guard: g, Logger: zap.NewNop()}.run(context.Background(), "echo $$", nil, os.Environ())
	if err != nil {
		t.Fatal(err)
	}
	tell.Close()
	if lines, err := io.ReadAll(told); string(lines) != fmt.Sprintf("+%s\n-%[1]s\n", pgid) || err != nil {
		t.Errorf("group %s: told %q, %v", pgid, lines, err)
	}
}

// TestGuardForgets: what was removed is not killed.
func TestGuardForgets(t *testing.T) {
	g := startGuard(t)
	stranger := exec.Command("sleep", "1000")
	stranger.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	if err := g.add(stranger.Process.Pid); err != nil {
		t.Fatal(err)
	}
	g.remove(stranger.Process.Pid)
	g.Stop()
	_ = stranger.Process.Signal(unix.SIGUSR1)
	if err := stranger.Wait(); err == nil || err.Error() != "signal: user defined signal 1" {
		t.Errorf("the stranger ended by %v", err)
	}
}

func TestExecOnceEnded(t *testing.T) {
	why := errors.New("why")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(why)
	if _, err := (ExecOptions{Guard: NewGuard()}).run(ctx, "true", nil, nil); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
}

func TestRunsIn(t *testing.T) {
	line := func(state string, pgrp, threads int) []byte {
		return fmt.Appendf(nil, "12 (a) Z 1 (b) %s 1 %d 3 4 5 6 7 8 9 10 11 12 13 14 15 16 %d 0 1\n", state, pgrp, threads)
	}
	for _, tt := range []struct {
		stat []byte
		want bool
	}{
		{line("S", 77, 1), true}, {line("D", 77, 1), true}, {line("T", 77, 1), true},
		{line("S", 78, 1), false}, {line("Z", 77, 1), false}, {line("Z", 77, 2), true},
		{line("X", 77, 0), false}, {nil, false}, {[]byte("1 (x"), false},
	} {
		if runsIn(77, tt.stat) != tt.want {
			t.Errorf("%s: not %v", tt.stat, tt.want)
		}
	}
}

func startGuard(t *testing.T) *Guard {
	t.Helper()
	g := NewGuard()
	if err := g.Start(openFile(t, filepath.Join(t.TempDir(), "seats"))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Stop)
	g.Trust(time.Now().Add(time.Hour))
	return g
}

func openFile(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
