package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const jobs = 300

var program string

// TestMain builds the program that a benchmark runs: without the race detector,
// as the libraries are not ours.
func TestMain(m *testing.M) {
	os.Exit(func() int {
		bin, err := os.MkdirTemp("", "peers-test-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(bin)
		program = filepath.Join(bin, "peers")
		if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// TestPeers: each library works all jobs off, by what its own store says to
// somebody who knows the file alone.
func TestPeers(t *testing.T) {
	for _, peer := range []struct {
		name, module, how string
		completed         func(t *testing.T, store string) int
	}{
		{"river", "github.com/riverqueue/river", "synchronous=FULL", func(t *testing.T, store string) int {
			return query(t, filepath.Join(store, "river.sqlite3"), `SELECT count(*) FROM river_job WHERE state = 'completed' AND attempt = 1`)
		}},
		{"backlite", "github.com/mikestefanello/backlite", "synchronous=NORMAL", func(t *testing.T, store string) int {
			return query(t, filepath.Join(store, "data.db"), `SELECT count(*) FROM backlite_tasks_completed WHERE succeeded AND attempts = 1`)
		}},
		{"asynq", "github.com/hibiken/asynq", "appendfsync=everysec", increments},
	} {
		t.Run(peer.name, func(t *testing.T) {
			dir := t.TempDir()
			cmd := exec.Command(program, peer.name, "--jobs", strconv.Itoa(jobs), "--slots", "20", "--dir", dir, "--keep")
			cmd.Stderr = t.Output()
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			var got struct {
				Name, Version, How string
				Jobs, Slots        int
				EnqueuePerSecond   float64 `json:"enqueue_per_second"`
				JobsPerSecond      float64 `json:"jobs_per_second"`
			}
			if err := json.Unmarshal(out, &got); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if got.Name != peer.name || got.Jobs != jobs || got.Slots != 20 || !strings.Contains(got.How, peer.how) {
				t.Errorf("%s", out)
			}
			if pinned := version(t, peer.module); got.Version != pinned {
				t.Errorf("says it is %s, go.mod has %s", got.Version, pinned)
			}
			for _, rate := range []float64{got.EnqueuePerSecond, got.JobsPerSecond} {
				if rate < 10 || rate > 1e6 {
					t.Errorf("no sensible rate: %v", rate)
				}
			}
			stores, err := filepath.Glob(filepath.Join(dir, "*"))
			if err != nil || len(stores) != 1 {
				t.Fatalf("--keep left %v, %v", stores, err)
			}
			if n := peer.completed(t, stores[0]); n != jobs {
				t.Errorf("the store knows of %d completed jobs, not of %d", n, jobs)
			}
		})
	}
}

// TestLeavesNothing: without --keep there is no trace.
func TestLeavesNothing(t *testing.T) {
	dir, temp := t.TempDir(), t.TempDir()
	cmd := exec.Command(program, "asynq", "--jobs", "1", "--slots", "1")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TMPDIR="+temp)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, d := range []string{dir, temp} {
		if left, err := os.ReadDir(d); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}

// TestRefusals: what can't be done is one line that names the way out.
func TestRefusals(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for _, refused := range []struct {
		args, says string
	}{
		{"", "usage: peers river|backlite|asynq"},
		{"sidekiq --jobs 1 --slots 1", "sidekiq is no queue that this program knows; usage:"},
		{"river --jobs 1", "--jobs and --slots have to be 1 or more"},
		{"river --workers 1", "flag provided but not defined: -workers; usage:"},
		{"river --jobs 1 --slots 1 --dir nowhere", "name another place with --dir"},
		{"asynq --jobs 1 --slots 1", "redis-server is not in $PATH; install it (Debian's package is redis-server)"},
	} {
		cmd := exec.Command(program, strings.Fields(refused.args)...)
		cmd.Dir = t.TempDir()
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), refused.says) {
			t.Errorf("%q: %v: %s", refused.args, err, out)
		}
	}
}

func version(t *testing.T, module string) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", module).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// query asks SQLite's own shell.
func query(t *testing.T, file, sql string) int {
	t.Helper()
	out, err := exec.Command("sqlite3", file, sql).CombinedOutput()
	n, nerr := strconv.Atoi(strings.TrimSpace(string(out)))
	if err := errors.Join(err, nerr); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return n
}

// increments counts how often the append-only file has asynq's counter of
// completed tasks go up.
func increments(t *testing.T, store string) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(store, "appendonlydir", "*.incr.aof"))
	if err != nil || len(files) != 1 {
		t.Fatalf("append-only files: %v, %v", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "asynq:{default}:failed\r\n") {
		t.Error("tasks have failed")
	}
	return strings.Count(strings.ToLower(string(text)), "\r\nincr\r\n$25\r\nasynq:{default}:processed\r\n")
}
