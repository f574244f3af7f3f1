//go:build linux

package torture_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shoal-project/shoal/test/torture/point"
)

// process is one process under test.
type process struct {
	role
	pid     int
	stopped chan struct{} // a word each time that it was stopped
	done    chan struct{} // closed at its end
	status  unix.WaitStatus
	ended   int64 // when that was known
}

// launch starts a process of the fleet; at says at which point it is to be hit, if
// at any.
func (f *fleet) launch(r role, at string) *process {
	f.Helper()
	r.DB, r.Dir, r.Queue = f.db, f.dir, f.queue
	text, err := json.Marshal(r)
	if err != nil {
		f.Fatal(err)
	}
	log, err := os.Create(filepath.Join(r.Dir, r.Name+".log"))
	if err != nil {
		f.Fatal(err)
	}
	defer log.Close()
	history := filepath.Join(r.Dir, r.Name+".history")
	openHistory(history).file.Close() // it is there, whatever becomes of the process
	cmd := exec.Command(f.binary)
	cmd.Env = append(os.Environ(), roleEnv+"="+string(text), point.Env+"="+at, point.HistoryEnv+"="+history,
		"GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	cmd.Stdout, cmd.Stderr = log, log
	// Signals that the terminal sends to the test are not for its processes; its
	// own end, however it comes, is theirs.
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		f.Fatal(err)
	}
	p := &process{role: r, pid: cmd.Process.Pid, stopped: make(chan struct{}, 100), done: make(chan struct{})}
	go p.watch()
	f.all = append(f.all, p)
	return p
}

// watch waits for what happens to the process, which os/exec tells only of its end.
func (p *process) watch() {
	for {
		var status unix.WaitStatus
		switch _, err := unix.Wait4(p.pid, &status, unix.WUNTRACED, nil); {
		case err == unix.EINTR:
		case err != nil:
			panic(fmt.Sprintf("wait for %s: %v", p.Name, err))
		case status.Stopped():
			p.stopped <- struct{}{}
		default:
			p.status, p.ended = status, monotonic()
			close(p.done)
			return
		}
	}
}

func (p *process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *process) signal(s unix.Signal) { _ = unix.Kill(p.pid, s) }

// end is how the process ended, for people.
func (p *process) end() string {
	if p.status.Signaled() {
		return "killed by " + unix.SignalName(p.status.Signal())
	}
	return "exit " + strconv.Itoa(p.status.ExitStatus())
}

func (p *process) log() string {
	text, _ := os.ReadFile(filepath.Join(p.Dir, p.Name+".log"))
	return string(text)
}

// holdsWriteLock says whether the process, which is stopped, sits on SQLite's
// write lock: byte 120 of -shm (https://sqlite.org/walformat.html, 2.3.1).
func (p *process) holdsWriteLock() bool {
	proc := fmt.Sprintf("/proc/%d/fdinfo", p.pid)
	fds, _ := os.ReadDir(proc)
	for _, fd := range fds {
		text, _ := os.ReadFile(filepath.Join(proc, fd.Name()))
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) == 9 && f[0] == "lock:" && f[4] == "WRITE" && f[7] == "120" {
				if to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", p.pid, fd.Name())); strings.HasSuffix(to, "-shm") {
					return true
				}
			}
		}
	}
	return false
}

// eventually looks until ok.
func eventually(t testing.TB, what string, patience time.Duration, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("never came within %v: %s", patience, what)
		}
	}
}

// query asks the system's sqlite3 program, and decodes its JSON into rows.
func query[T any](t testing.TB, db, sql string) (rows []T) {
	t.Helper()
	out, err := trySQL(db, ".mode json", sql)
	if err != nil {
		t.Fatalf("sqlite3: %v: %s\n%s", err, out, sql)
	}
	if len(out) == 0 {
		return nil
	}
	if err := json.Unmarshal(out, &rows); err != nil {
		t.Fatalf("sqlite3: %v\n%s", err, sql)
	}
	return rows
}

func trySQL(db string, commands ...string) ([]byte, error) {
	args := []string{"-batch", "-init", "/dev/null", "-cmd", ".timeout 20000"}
	for _, c := range commands[:len(commands)-1] {
		args = append(args, "-cmd", c)
	}
	cmd := exec.Command("sqlite3", append(args, db, commands[len(commands)-1])...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return []byte(errs.String()), err
	}
	return out, nil
}

// number is a query of one number.
func number(t testing.TB, db, sql string) int64 {
	t.Helper()
	rows := query[struct{ N int64 }](t, db, "SELECT ("+sql+") AS N")
	return rows[0].N
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
