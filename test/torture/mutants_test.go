//go:build linux

package torture_test

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

var (
	mutantFlag  = flag.String("mutant", "", "take this mechanism out of the processes under test")
	mutantsFlag = flag.Bool("mutants", false, "take out each mechanism in turn, and see that the tests notice")
)

// mutant is a mechanism that is taken out of the sources, and who has to notice.
type mutant struct {
	name    string
	without string // what is taken out
	patches []patch
	tests   string // a pattern for go test's -run
	notice  string // a part of what they have to say
	where   string // the tests' package, which builds for itself; empty: this one
}

const (
	connFile   = "pkg/store/sqlite/conn.go"
	clockFile  = "pkg/store/sqlite/clock.go"
	openFile   = "pkg/store/sqlite/open.go"
	finishFile = "pkg/store/sqlite/finish.go"
	seatFile   = "pkg/store/sqlite/seat.go"
	watchFile  = "pkg/store/sqlite/watch.go"
	guardFile  = "internal/handlers/exec_guard_process.go"
	keepFile   = "pkg/lease/keep.go"
)

var mutants = []mutant{
	{
		name: "token", notice: "not linearizable", without: "the token in an outcome's WHERE", tests: "TestTorture$",
		patches: []patch{
			{finishFile, "WHERE id = ? AND status = 'running' AND lease_token = ?`,\n			o.Delay", "WHERE id = ? AND status = 'running' AND ? IS NOT NULL`,\n			o.Delay"},
			{finishFile, "status = 'running' AND lease_token = token`", "status = 'running' AND token IS NOT NULL`"},
			{finishFile, "WHERE id = ? AND status = 'running' AND lease_token = ?`,\n		string(", "WHERE id = ? AND status = 'running' AND ? IS NOT NULL`,\n		string("},
		},
	},
	{
		name: "durability", notice: "acknowledged before the power cut and lost", without: "synchronous = FULL", tests: "TestPowerCut$",
		patches: []patch{{connFile, "PRAGMA synchronous = FULL", "PRAGMA synchronous = NORMAL"}},
	},
	{
		name: "clock", notice: "never came", without: "the kernel's clock: leases go by the wall clock", tests: "TestTorture$",
		patches: []patch{
			{clockFile, "type leaseClock struct {\n", "type leaseClock struct {\n	wall func() time.Time\n"},
			{clockFile, "	var ts unix.Timespec\n	if err := unix.ClockGettime(kernelClock, &ts); err != nil {\n		// newLeaseClock",
				"	if c.wall != nil {\n		return c.wall().UnixMilli()\n	}\n	var ts unix.Timespec\n	if err := unix.ClockGettime(kernelClock, &ts); err != nil {\n		// newLeaseClock"},
			{openFile, "	if db.boot, err = bootID(); err != nil {", "	db.clock.wall = db.opts.Now\n	if db.boot, err = bootID(); err != nil {"},
		},
	},
	{
		name: "tick", notice: "the deposed leader's tick", without: "the leader's token in Tick", tests: "TestDeposedLeader$",
		patches: []patch{{tickFile, "WHERE name = ? AND owner = ? AND token = ? AND expires_at > ?", "WHERE name = ? AND coalesce(?, ?, ?) IS NOT NULL"}},
	},
	{
		name: "attempts", notice: "never came", without: "the attempt's count at the claim", tests: "TestTorture$",
		patches: []patch{{claimFile, "status = 'running', attempts = attempts + 1,", "status = 'running',"}},
	},
	{
		name: "immediate", notice: "failed without a reason", without: "BEGIN IMMEDIATE: transactions begin as readers", tests: "TestTorture$",
		patches: []patch{{connFile, "`BEGIN IMMEDIATE`", "`BEGIN`"}},
	},
	{
		name: "guard", notice: "two commands of one job at once", without: "the guard's kill of a dead worker's commands", tests: "TestTorture$",
		patches: []patch{
			{guardFile, "	d.kill()\n	for pgid := range d.groups {\n		awaitGroup(pgid)\n	}\n", ""},
		},
	},
	{
		name: "silence", notice: "two commands of one job at once", without: "the guard's kill of a stopped worker's commands", tests: "TestTorture$",
		patches: []patch{{guardFile, "		if kernelMillis() >= d.until {", "		if false {"}},
	},
	{
		name: "look", notice: "started later than 4 s", without: "the looks that follow the first one after a change of -wal", tests: "TestWakeUpSlowCommit$", where: "test/e2e",
		patches: []patch{{watchFile, "		case locked:\n", "		case locked && !locked:\n"}},
	},
	{
		name: "byte", notice: "slow recovery", without: "the seat's byte: death shows in the lease alone", tests: "TestTorture$",
		patches: []patch{{seatFile, "	return db.probe.Held(m.id)", "	return true, nil"}},
	},
	{
		name: "alive", notice: "reaped without a reason", without: "the certainty of the seat's byte: one look in 300 finds a living worker dead", tests: "TestTorture$",
		patches: []patch{{seatFile, "	return db.probe.Held(m.id)", "	if time.Now().UnixNano()%300 == 0 {\n		return false, nil\n	}\n	return db.probe.Held(m.id)"}},
	},
	{
		name: "trust", notice: "ended after", without: "the timer that ends a handler's context while a renewal hangs", tests: "TestKeepEnds$", where: "pkg/lease",
		patches: []patch{{keepFile, "func() { cancel(ErrLost) }", "func() {}"}},
	},
}

// mutantPatches are those of the flag's mutant; none without one.
func mutantPatches() []patch {
	for _, m := range mutants {
		if m.name == *mutantFlag {
			return m.patches
		}
	}
	return nil
}

// TestMutantsFit: each mutant's patches find their place in the sources as they
// are, so that a run of all mutants takes out what it says.
func TestMutantsFit(t *testing.T) {
	for _, m := range mutants {
		if _, err := overlay(t.TempDir(), m.patches); err != nil {
			t.Error(err)
		}
	}
}

// complaint is a line of a failed test that says what is wrong.
var complaint = regexp.MustCompile(`^\s+\w+_test\.go:\d+: (.*)`)

// runMutants runs the tests with one mechanism missing each time. It prints what
// they said, and returns 1 if one of them was not noticed, by the words that are
// expected of it: any other failure is an accident.
func runMutants(out io.Writer) int {
	code := 0
	for _, m := range mutants {
		if *mutantFlag != "" && *mutantFlag != m.name {
			continue
		}
		verdict, began := "NOT CAUGHT", time.Now()
		for range 3 {
			text, err := m.run()
			if err == nil {
				continue
			}
			if said := complaints(text, m.notice); said != "" {
				verdict = said
				break
			}
			verdict = "NOT CAUGHT, but red: " + complaints(text, "")
		}
		if strings.HasPrefix(verdict, "NOT") {
			code = 1
		}
		fmt.Fprintf(out, "without %s (%s, %v):\n	%s\n", m.without, strings.TrimSuffix(m.tests, "$"), time.Since(began).Round(time.Second), verdict)
	}
	return code
}

func (m mutant) run() ([]byte, error) {
	if m.where == "" {
		args := []string{"-test.run", m.tests, "-test.v", "-mutant", m.name, "-duration", durationFlag.String(), "-cuts", "20"}
		return exec.Command(os.Args[0], args...).CombinedOutput()
	}
	// Those tests build their programs themselves, and take the overlay from the environment.
	dir, err := os.MkdirTemp("", "shoal-mutant-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path, err := overlay(dir, m.patches)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("go", "test", "-count=1", "-run", m.tests, "./"+m.where)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOFLAGS=-overlay="+path)
	return cmd.CombinedOutput()
}

// complaints are the first lines of what failed tests said with those words in it.
func complaints(text []byte, words string) string {
	var list []string
	for line := range strings.Lines(string(text)) {
		if m := complaint.FindStringSubmatch(line); m != nil && strings.Contains(m[1], words) {
			list = append(list, m[1])
		}
	}
	return strings.Join(list[:min(len(list), 3)], "; ")
}
