//go:build linux

// Package torture_test holds the promises under faults. Real processes share
// one file; they are killed, stopped, drained, at random and at named places of
// their code; each writes a history of its own; and in the end histories and
// database are compared, also with a model of what a job's life may be.
//
// It can fail: mutants_test.go takes the mechanisms out, one at a time, and each
// time the test has to turn red.
package torture_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shoal-project/shoal/internal/handlers"
)

var (
	durationFlag = flag.Duration("duration", 20*time.Second, "how long faults are made")
	seedFlag     = flag.Uint64("seed", 0, "of the faults; 0: one is drawn")
	seedsFlag    = flag.Uint64("seeds", 1, "so many runs, with seeds one after the other")
	rateFlag     = flag.Int("rate", map[bool]int{false: 120, true: 40}[raceDetector], "jobs a second")
	everyFlag    = flag.Duration("every", map[bool]time.Duration{false: 600 * time.Millisecond, true: time.Second}[raceDetector], "a fault, on average")
	workersFlag  = flag.Int("workers", map[bool]int{false: 8, true: 5}[raceDetector], "worker processes")
	cutsFlag     = flag.Int("cuts", 8, "power cuts")
	leadersFlag  = flag.Int("leaders", 12, "leaders that are killed or stopped")
	homeFlag     = flag.String("home", "", "be guests of the running fleet of this home, and hit it, too")
	keepFlag     = flag.String("keep", "", "a folder in which histories, logs and database are left")
)

func TestMain(m *testing.M) {
	if handlers.RunGuardIfAsked() {
		return
	}
	if text := os.Getenv(roleEnv); text != "" {
		os.Exit(play(text))
	}
	flag.Parse()
	if err := checkFlags(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if *mutantsFlag {
		os.Exit(runMutants(os.Stdout))
	}
	os.Exit(m.Run())
}

// checkFlags refuses what would test nothing.
func checkFlags() error {
	known := slices.ContainsFunc(mutants, func(m mutant) bool { return m.name == *mutantFlag })
	switch {
	case *mutantFlag != "" && !known:
		return fmt.Errorf("-mutant %s: there is none of that name; see mutants_test.go", *mutantFlag)
	case *seedsFlag < 1, *workersFlag < 2, *cutsFlag < 1, *leadersFlag < 1, *rateFlag < 1:
		return errors.New("seeds, cuts, leaders and rate are at least 1, workers 2")
	case *durationFlag < time.Second, *everyFlag <= 0:
		return errors.New("duration is at least 1s, every more than 0")
	}
	return nil
}

// runDir is a folder for a run's files.
func runDir(t testing.TB) string {
	if *keepFlag == "" {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(*keepFlag, strings.ReplaceAll(t.Name(), "/", "-")+"-") //nolint:usetesting // it is to be left
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func seed(t testing.TB) uint64 {
	s := *seedFlag
	if s == 0 {
		s = uint64(rand.Uint32())
	}
	t.Logf("seed %d", s)
	return s
}

// TestTorture: a fleet under random faults loses nothing and doubles nothing.
func TestTorture(t *testing.T) {
	first := seed(t)
	binary := build(t)
	for i := range *seedsFlag {
		if *seedsFlag == 1 {
			torture(t, first, binary)
			continue
		}
		t.Run(fmt.Sprint(first+i), func(t *testing.T) { torture(t, first+i, binary) })
	}
}

func torture(t *testing.T, seed uint64, binary string) {
	o := options{
		seed: seed, duration: *durationFlag, workers: *workersFlag, producers: 2, rate: *rateFlag, every: *everyFlag,
		lease: 2 * time.Second, queue: "torture", ticks: tickIntervals,
	}
	if *homeFlag != "" {
		o.guest, o.db = true, filepath.Join(*homeFlag, "shoal.db")
		o.queue = fmt.Sprintf("torture-%d", o.seed)
		defer clean(t, o)
	} else {
		o.db = filepath.Join(runDir(t), "shoal.db")
	}
	makeFile(t, o.db)
	header(t, o.db)
	f := newFleet(t, o, binary)
	f.run(f.nemesis)
	s := tell(t, o, f.dir)
	s.check(f.dir)
	s.figures()
	if *keepFlag != "" {
		picture := filepath.Join(f.dir, "timeline.svg")
		if err := s.draw(picture); err != nil {
			t.Error(err)
		}
		t.Logf("timeline: %s", picture)
	}
}

// TestDiskFull: on a disk that gets full again and again nothing is lost or half
// done, no job is taken from who could not renew its lease, and all goes on by
// itself.
func TestDiskFull(t *testing.T) {
	if !mayMount() {
		t.Skip("NOT TESTED, a full disk: it needs the rights of root (CAP_SYS_ADMIN), to mount a small one")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=48m", "none", dir).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
	defer func() { _ = exec.Command("umount", "-l", dir).Run() }()
	o := options{
		seed: seed(t), duration: min(*durationFlag/2, 30*time.Second), workers: 4, producers: 2, rate: *rateFlag, every: *everyFlag,
		lease: 2 * time.Second, queue: "torture", ticks: tickIntervals, small: true, db: filepath.Join(dir, "shoal.db"),
	}
	makeFile(t, o.db)
	f := newFleet(t, o, build(t))
	f.run(func() {
		pause(f.faulting, o.duration/5) // then all are at work
		f.fill(o.lease * 3 / 2)
		f.nemesis()
	})
	s := tell(t, o, f.dir)
	s.check(f.dir)
	s.figures()
	refused := make(map[string]int)
	for op, calls := range s.calls {
		for _, c := range calls {
			if s.excused(c) {
				refused[op]++
			}
		}
	}
	t.Logf("refused for want of room: %v", refused)
	if refused["enqueue"] == 0 {
		t.Error("the disk was never full for an enqueue")
	}
}
