//go:build linux

package torture_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// options of a run.
type options struct {
	seed      uint64
	duration  time.Duration // of the faults
	workers   int
	producers int
	rate      int           // jobs a second, of all producers
	every     time.Duration // a fault, on average
	lease     time.Duration
	db        string
	guest     bool // the database is that of a fleet which runs already
	small     bool // it lies on a disk that gets full
	queue     string
	ticks     []time.Duration // intervals of the schedules
}

// fleet is the processes under test, and what is done to them.
type fleet struct {
	testing.TB
	options
	binary string
	dir    string // of the histories
	faults *history
	clock  wallClock
	points func(*rand.Rand) string // where a new worker is to be hit, for point.Env

	faulting, running context.Context // faults are made; who dies is replaced
	calm, halt        context.CancelFunc
	attending         sync.WaitGroup

	mu        sync.Mutex
	workersUp []*process // by place; nil: between two processes
	all       []*process
}

func newFleet(t testing.TB, o options, binary string) *fleet {
	t.Helper()
	f := &fleet{TB: t, options: o, binary: binary, dir: runDir(t), points: randomPoint}
	f.faults = openHistory(filepath.Join(f.dir, "conductor.history"))
	f.clock = openClock(filepath.Join(f.dir, "clock"))
	for path, text := range map[string]string{execScript: execText, "exec.log": ""} {
		if err := os.WriteFile(filepath.Join(f.dir, path), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(f.dir, "locks"), 0o700); err != nil {
		t.Fatal(err)
	}
	f.running, f.halt = context.WithCancel(context.Background())
	f.faulting, f.calm = context.WithTimeout(f.running, o.duration)
	f.workersUp = make([]*process, o.workers)
	t.Cleanup(f.killAll)
	return f
}

// killAll ends what is left when a test fails.
func (f *fleet) killAll() {
	f.calm()
	f.halt()
	for _, p := range f.processes() {
		if p.alive() {
			p.signal(unix.SIGKILL)
		}
	}
	f.attending.Wait()
}

func (f *fleet) processes() []*process {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]*process(nil), f.all...)
}

func (f *fleet) note(op string, p *process, note string) {
	f.faults.add(event{Op: op, ID: int64(p.pid), Note: p.Name, Keys: []string{note}})
}

// fate of a process: a random source of its own, so that one process's timing
// does not change another's faults.
func (f *fleet) random(name string) *rand.Rand {
	h := f.seed
	for _, b := range []byte(name) {
		h = h*1099511628211 + uint64(b)
	}
	return rand.New(rand.NewPCG(f.seed, h))
}

// worker is the role of the nth process at a place.
func (f *fleet) worker(place, n int) role {
	return role{
		Role: "worker", Name: fmt.Sprintf("worker-%d-%03d", place, n), DB: f.db, Dir: f.dir,
		Clock: filepath.Join(f.dir, "clock"), Queue: f.queue, Lease: f.lease, Poll: time.Second, Drain: time.Second,
		Slots: 8, Ticks: f.ticks,
	}
}

// attend keeps a place filled until running ends: it starts a process, continues
// it some time after it was stopped, and starts another when it has died.
func (f *fleet) attend(place int, role func(place, n int) role) {
	for n := 0; f.running.Err() == nil; n++ {
		r := role(place, n)
		rng := f.random(r.Name)
		at := ""
		if r.Role == "worker" && f.faulting.Err() == nil {
			at = f.points(rng)
		}
		p := start(f, f.binary, r, at)
		f.note("start", p, at)
		f.mu.Lock()
		f.all = append(f.all, p)
		if r.Role == "worker" {
			f.workersUp[place] = p
		}
		f.mu.Unlock()
		for p.alive() {
			select {
			case <-p.stopped:
				f.continued(p, rng)
			case <-p.done:
			}
		}
		f.mu.Lock()
		if r.Role == "worker" {
			f.workersUp[place] = nil
		}
		f.mu.Unlock()
		f.faults.add(event{At: p.ended, Op: "dead", ID: int64(p.pid), Note: p.Name, Keys: []string{p.end()}})
		if r.Role == "producer" && p.status.Exited() {
			return // it was told to
		}
		pause(f.running, time.Duration(rng.IntN(300))*time.Millisecond)
	}
}

// continued continues a process that was stopped, after a while, or kills it.
func (f *fleet) continued(p *process, rng *rand.Rand) {
	d := time.Duration((0.1 + 0.7*rng.Float64()) * float64(f.lease))
	what := "stopped"
	past := rng.IntN(2) == 0
	switch {
	case p.holdsWriteLock():
		what = "stopped in a commit"
		if d = d / 2; rng.IntN(10) == 0 {
			d = f.lease + f.lease/4
		}
	case past:
		d = f.lease + time.Second + time.Duration(rng.IntN(500))*time.Millisecond
	}
	f.note(what, p, d.String())
	pause(f.faulting, d)
	if rng.IntN(7) == 0 && f.faulting.Err() == nil {
		f.kill(p)
	}
	f.note("continued", p, "")
	p.signal(unix.SIGCONT)
}

func (f *fleet) kill(p *process) {
	f.note("kill", p, "")
	p.signal(unix.SIGKILL)
}

// run starts the fleet, makes faults, and returns when all jobs have ended and
// all processes have.
func (f *fleet) run(nemesis func()) {
	f.Helper()
	for place := range f.workers {
		f.attending.Go(func() { f.attend(place, f.worker) })
	}
	for place := range f.producers {
		f.attending.Go(func() {
			f.attend(place, func(place, n int) role {
				name := fmt.Sprintf("producer-%d-%03d", place, n)
				return role{Role: "producer", Name: name, DB: f.db, Dir: f.dir, Clock: filepath.Join(f.dir, "clock"),
					Queue: f.queue, Seed: f.random(name).Uint64(), Rate: max(1, f.rate/f.producers)}
			})
		})
	}
	nemesis()
	f.calm()
	f.settle()
}

// settle ends the run: producers first, then, when all jobs have ended, workers.
func (f *fleet) settle() {
	f.Helper()
	f.note("calm", &process{}, "")
	f.eachUp("producer", func(p *process) { p.signal(unix.SIGTERM) })
	eventually(f, "all jobs to have ended", 90*time.Second, func() bool {
		up := 0
		f.eachUp("producer", func(*process) { up++ })
		return up == 0 && number(f, f.db, `SELECT count(*) FROM sync_jobs WHERE status IN ('pending', 'running') AND queue = '`+f.queue+`'`) == 0
	})
	f.halt()
	f.eachUp("worker", func(p *process) {
		f.note("term", p, "")
		p.signal(unix.SIGTERM)
	})
	f.attending.Wait()
	for _, p := range f.processes() {
		if p.status.Exited() && p.status.ExitStatus() != 0 && !strings.Contains(p.log(), "guard has ended") {
			f.Errorf("%s: %s:\n%s", p.Name, p.end(), lastLines(p.log(), 20))
		}
	}
}

func (f *fleet) eachUp(kind string, fn func(*process)) {
	for _, p := range f.processes() {
		if p.Role == kind && p.alive() {
			fn(p)
		}
	}
}

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
		case kind < 54:
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

// hitHost kills or stops a worker of the fleet whose guests we are. Its own
// supervisor starts another.
func (f *fleet) hitHost(rng *rand.Rand) {
	ours := make(map[int]bool)
	for _, p := range f.processes() {
		ours[p.pid] = true
	}
	var hosts []int
	for _, w := range query[struct{ PID int }](f, f.db, `SELECT pid AS PID FROM sync_workers ORDER BY id`) {
		if !ours[w.PID] {
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

// pause waits for d, and is false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// tickIntervals are those of the workers' schedules: longer than a fleet may be
// without a leader, so that none has an excuse.
var tickIntervals = []time.Duration{3 * time.Second, 4 * time.Second, 5 * time.Second}
