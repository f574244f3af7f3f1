//go:build linux

package torture_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
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
	f.clock = openClock(f.dir)
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
	return slices.Clone(f.all)
}

func (f *fleet) note(op string, p *process, note string) {
	f.faults.add(event{Op: op, ID: int64(p.pid), Note: p.Name, Keys: []string{note}})
}

// random is a process's own source, so that one process's timing does not change
// another's faults.
func (f *fleet) random(name string) *rand.Rand {
	h := f.seed
	for _, b := range []byte(name) {
		h = h*1099511628211 + uint64(b)
	}
	return rand.New(rand.NewPCG(f.seed, h))
}

// worker is the role of the nth process at a place.
func (f *fleet) worker(place, n int) role {
	return role{Role: "worker", Name: fmt.Sprintf("worker-%d-%03d", place, n), Lease: f.lease, Ticks: f.ticks}
}

// producer is the role of the nth process that enqueues at a place.
func (f *fleet) producer(place, n int) role {
	name := fmt.Sprintf("producer-%d-%03d", place, n)
	return role{Role: "producer", Name: name, Seed: f.random(name).Uint64(), Rate: max(1, f.rate/f.producers)}
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
		p := f.start(place, r, at)
		if p == nil {
			return
		}
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
		pause(f.running, time.Duration(rng.IntN(300))*time.Millisecond)
	}
}

// start starts a process at a place; nil: it is too late for that. Who looks at the
// fleet's processes after that finds all there will be.
func (f *fleet) start(place int, r role, at string) *process {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.running.Err() != nil || r.Role == "producer" && f.faulting.Err() != nil {
		return nil
	}
	p := f.launch(r, at)
	f.note("start", p, at)
	if r.Role == "worker" {
		f.workersUp[place] = p
	}
	return p
}

// continued continues a process that was stopped, after a while, or kills it.
func (f *fleet) continued(p *process, rng *rand.Rand) {
	d := time.Duration((0.1 + 0.7*rng.Float64()) * float64(f.lease))
	what := "stopped"
	past := rng.IntN(4) > 0
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
		f.attending.Go(func() { f.attend(place, f.producer) })
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
	defer func() {
		if left := ` FROM sync_jobs WHERE status IN ('pending', 'running') AND queue = '` + f.queue + `'`; f.Failed() {
			out, _ := trySQL(f.db, "SELECT 'left', count(*)"+left, ".mode line", "SELECT unixepoch() AS now, *"+left+" LIMIT 5",
				"SELECT * FROM sync_workers")
			f.Logf("wall clock %v ahead\n%s", time.Duration(f.clock.offset.Load()), out)
		}
	}()
	last := int64(-1) // of the jobs, once all of them have ended
	eventually(f, "all jobs to have ended", 90*time.Second, func() bool {
		up := 0
		f.eachUp("producer", func(*process) { up++ })
		last = number(f, f.db, `SELECT iif(EXISTS (SELECT 1 FROM sync_jobs WHERE status IN ('pending', 'running') AND queue = '`+f.queue+`'),
			-1, (SELECT coalesce(max(id), 0) FROM sync_jobs))`)
		return up == 0 && last >= 0
	})
	f.note("settled", &process{}, fmt.Sprint(last))
	f.halt()
	f.eachUp("worker", func(p *process) {
		f.note("term", p, "")
		p.signal(unix.SIGTERM)
	})
	f.attending.Wait()
	for _, p := range f.processes() {
		excused := strings.Contains(p.log(), "guard has ended") || f.small && strings.Contains(p.log(), diskFull)
		if p.status.Exited() && p.status.ExitStatus() != 0 && !excused {
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

// tickIntervals are those of the workers' schedules: longer than a fleet may be
// without a leader, so that none has an excuse.
var tickIntervals = []time.Duration{3 * time.Second, 4 * time.Second, 5 * time.Second}
