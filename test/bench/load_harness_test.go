package main_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
)

// loadTest runs the real program, and looks at its database with the system's
// sqlite3, also while it runs.
type loadTest struct {
	*testing.T
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	db             string
}

// startLoad starts the program. After the test nothing of it is left.
func startLoad(t *testing.T, binary, db string, args ...string) *loadTest {
	l := &loadTest{T: t, db: db}
	l.cmd = exec.Command(binary, append([]string{"load", "--db", db, "--json"}, args...)...)
	l.cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	l.cmd.Stdout, l.cmd.Stderr = &l.stdout, &l.stderr
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = l.cmd.Process.Kill(), l.cmd.Wait()
		if t.Failed() {
			t.Logf("%s%s", &l.stdout, &l.stderr)
		}
	})
	return l
}

// loadFigures is what the test looks at in the program's result.
type loadFigures struct {
	Enqueued     int    `json:"enqueued"`
	Completed    int    `json:"completed"`
	Again        int    `json:"begun_again"`
	Died         int    `json:"workers_died"`
	Interrupted  bool   `json:"interrupted"`
	Difference   string `json:"difference"`
	Commits      int    `json:"commits"`
	EnqueueTimes times  `json:"enqueue_us"`
	Started      times  `json:"started_us"`
	Done         times  `json:"completed_us"`
	Turn         times  `json:"turn_us"`
	WALPeak      int    `json:"wal_peak_bytes"`
	Drift        map[string]struct {
		P99      int `json:"completed_p99_us"`
		RSS      int `json:"worker_rss_bytes"`
		Database int `json:"database_bytes"`
	} `json:"drift"`
}

type times struct{ Count, P50, P90, P99, P999, Max int }

// end waits for the program's end and returns its result.
func (l *loadTest) end(exit int) (f loadFigures) {
	l.Helper()
	if _ = l.cmd.Wait(); l.cmd.ProcessState.ExitCode() != exit {
		l.Fatalf("it ended with %v", l.cmd.ProcessState)
	}
	if err := json.Unmarshal(l.stdout.Bytes(), &f); err != nil {
		l.Fatal(err)
	}
	return f
}

func (l *loadTest) sql(query string) (string, error) {
	out, err := exec.Command("sqlite3", "-cmd", ".timeout 20000", l.db, query).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// want compares a row of the file.
func (l *loadTest) want(query, want string) {
	l.Helper()
	if got, err := l.sql(query); err != nil || got != want {
		l.Errorf("%s: %s (%v), want %s", query, got, err, want)
	}
}

// until looks until the query has a result.
func (l *loadTest) until(query string) (result string) {
	l.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-tick.C {
		if out, err := l.sql(query); err == nil && out != "" {
			return out
		}
	}
	l.Fatalf("never came: %s", query)
	return ""
}

const oneCompleted = `SELECT min(id) FROM sync_jobs WHERE status = 'completed'`

// buildLoad builds the program, with the race detector if that is in this test.
func buildLoad(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "bench")
	args := []string{"build", "-o", binary}
	info, ok := debug.ReadBuildInfo()
	if ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}
