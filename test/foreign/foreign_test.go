package foreign_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// bin is the folder that the programs were built in.
var bin string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if bin, err = os.MkdirTemp("", "shoal-foreign-"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(bin)
		for dir, packages := range map[string][]string{"../..": {"./cmd/worker"}, ".": {"./mattn", "./modernc", "./clash"}} {
			// Without the race detector: the libraries are not ours, the fleet is
			// tested with it elsewhere, and what is killed here should be fast.
			build := exec.Command("go", append([]string{"build", "-o", bin + "/"}, packages...)...)
			build.Dir = dir
			if out, err := build.CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
				return 1
			}
		}
		return m.Run()
	}())
}

// process is a program that is killed and started again.
type process struct {
	*exec.Cmd
	name   string
	start  func() *process // again
	stdin  io.Closer
	first  string // line of its standard output
	done   chan struct{}
	stderr strings.Builder // whole once it is done
}

// run starts a program, and waits for its first line if it is to say one. It
// ends with the test.
func run(t *testing.T, says bool, program string, args ...string) *process {
	t.Helper()
	p := &process{Cmd: exec.Command(filepath.Join(bin, program), args...), name: program, done: make(chan struct{})}
	p.start = func() *process { return run(t, says, program, args...) }
	p.Stderr = &p.stderr
	stdin, err := p.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin = stdin
	stdout, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	if says && lines.Scan() {
		p.first = lines.Text()
	}
	go func() {
		for lines.Scan() { // a full pipe would stop it
		}
		_ = p.Wait()
		close(p.done)
	}()
	t.Cleanup(p.kill)
	return p
}

func (p *process) kill() {
	_ = p.Process.Kill()
	<-p.done
}

// ended says whether it has ended by itself.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// finish lets it end by itself.
func (p *process) finish(t *testing.T) {
	t.Helper()
	_ = p.stdin.Close()
	select {
	case <-p.done:
	case <-time.After(time.Minute):
		t.Fatalf("%s goes on", p.name)
	}
	if !p.ProcessState.Success() {
		t.Errorf("%s: %v: %s", p.name, p.ProcessState, p.stderr.String())
	}
}

// database is a file that is looked at from outside.
type database struct {
	*testing.T
	path string
}

// sql runs a query with the system's sqlite3 and returns its lines.
func (db database) sql(query string) []string {
	db.Helper()
	out, err := exec.Command("sqlite3", "-cmd", ".timeout 20000", db.path, query).CombinedOutput()
	if err != nil {
		db.Fatalf("sqlite3: %v: %s\n%s", err, out, query)
	}
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' })
}

func (db database) is(query, want string) {
	db.Helper()
	if got := strings.Join(db.sql(query), " "); got != want {
		db.Errorf("%s: %s, want %s", query, got, want)
	}
}

// eventually looks until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("never came: %s", what)
		}
	}
}
