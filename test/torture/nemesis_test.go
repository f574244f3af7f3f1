//go:build linux

package torture_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// nemesis makes faults.
func (f *fleet) nemesis() {
	rng := f.random("nemesis")
	for pause(f.faulting, time.Duration(rng.ExpFloat64()*float64(f.every))) {
		kind, place := rng.IntN(100), rng.IntN(f.workers)
		p := f.target(place)
		switch {
		case f.small && kind < 30:
			f.fill(time.Duration(rng.Int64N(int64(f.lease) * 3 / 2)))
		case kind < 4:
			f.pinWAL(time.Duration(500+rng.IntN(3000)) * time.Millisecond)
		case kind < 8 && f.guest:
			f.hitHost(rng)
		case kind < 8:
			hours := rng.IntN(3) - 1
			f.note("clock", &process{}, strconv.Itoa(hours)+" h")
			f.clock.offset.Store(int64(hours) * int64(time.Hour))
		case kind < 12:
			for _, q := range f.processes() {
				if q.Role == "producer" && q.alive() && rng.IntN(2) == 0 {
					f.kill(q)
				}
			}
		case p == nil:
		case kind < 16:
			f.killGuard(p)
		case kind < 26:
			f.note("term", p, "")
			p.signal(unix.SIGTERM)
		case kind < 62:
			f.note("stop", p, "")
			p.signal(unix.SIGSTOP)
		default:
			f.kill(p)
		}
	}
}

// target is the worker at a place, or the next one that can be hit; nil where
// that would leave less than half of the fleet at work.
func (f *fleet) target(place int) *process {
	f.mu.Lock()
	defer f.mu.Unlock()
	var found *process
	up := 0
	for i := range f.workersUp {
		p := f.workersUp[(place+i)%len(f.workersUp)]
		if p == nil || !p.alive() || p.asleep() {
			continue
		}
		if up++; found == nil {
			found = p
		}
	}
	if up <= len(f.workersUp)/2 {
		return nil
	}
	return found
}

// asleep says whether the process is stopped.
func (p *process) asleep() bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	i := strings.LastIndexByte(string(text), ')')
	return err != nil || i < 0 || strings.HasPrefix(string(text[i+1:]), " T")
}

// killGuard kills the process that guards a worker's commands.
func (f *fleet) killGuard(p *process) {
	out, err := exec.Command("pgrep", "-P", strconv.Itoa(p.pid), "shoal-guard").Output()
	if err != nil {
		return // none yet
	}
	guard, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		return
	}
	f.note("kill guard", p, "")
	_ = unix.Kill(guard, unix.SIGKILL)
}

// hasSeat says whether a process has the seats' file open: the number in the
// fleet's table may be that of another PID namespace, and a stranger's here.
func hasSeat(pid int, db string) bool {
	fds := fmt.Sprintf("/proc/%d/fd", pid)
	entries, _ := os.ReadDir(fds)
	return slices.ContainsFunc(entries, func(fd os.DirEntry) bool {
		to, err := os.Readlink(filepath.Join(fds, fd.Name()))
		return err == nil && to == db+"-workers"
	})
}

// hitHost kills or stops a worker of the fleet whose guests we are. Its own
// supervisor starts another.
func (f *fleet) hitHost(rng *rand.Rand) {
	ours := make(map[int]bool)
	for _, p := range f.processes() {
		ours[p.pid] = true
	}
	var hosts []int
	for _, w := range query[struct{ PID int }](f, f.db, `SELECT pid AS PID FROM sync_workers ORDER BY id`) {
		if !ours[w.PID] && hasSeat(w.PID, f.db) {
			hosts = append(hosts, w.PID)
		}
	}
	if len(hosts) == 0 {
		return
	}
	pid := hosts[rng.IntN(len(hosts))]
	host := &process{role: role{Name: fmt.Sprintf("host-%d", pid)}, pid: pid}
	if rng.IntN(2) == 0 {
		f.kill(host)
		return
	}
	f.note("stop", host, "")
	host.signal(unix.SIGSTOP)
	f.attending.Go(func() {
		pause(f.faulting, time.Duration(rng.Int64N(int64(2*f.lease))))
		host.signal(unix.SIGCONT)
	})
}

// pinWAL has another program read for a while, so that the WAL can't begin anew.
func (f *fleet) pinWAL(d time.Duration) {
	cmd := exec.Command("sqlite3", "-batch", f.db)
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		f.Error(err)
		return
	}
	f.note("reader", &process{}, d.String())
	fmt.Fprintln(in, ".timeout 5000\nBEGIN; SELECT count(*) FROM sync_meta;")
	f.attending.Go(func() {
		pause(f.running, d)
		in.Close()
		_ = cmd.Wait()
	})
}

// fill fills the disk for a while.
func (f *fleet) fill(d time.Duration) {
	file, err := os.Create(filepath.Join(filepath.Dir(f.db), "fill"))
	if err != nil {
		f.Error(err)
		return
	}
	defer file.Close()
	began := monotonic()
	for chunk := make([]byte, 64<<10); err == nil; {
		_, err = file.Write(chunk)
	}
	pause(f.faulting, d)
	if err := os.Remove(file.Name()); err != nil {
		f.Error(err)
	}
	f.faults.add(event{Op: "full", From: began, Note: "disk", Keys: []string{d.String()}})
}
