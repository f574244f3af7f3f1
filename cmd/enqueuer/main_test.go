package main

import (
	"errors"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"enqueuer": main}) }

// TestScripts runs the program as people do, and looks at the outcome with the
// system's sqlite3.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("TZ", "UTC")
			env.Setenv("GORACE", "atexit_sleep_ms=0") // else each command takes a second under -race
			env.Defer(func() { checkDatabases(t, env.WorkDir) })
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"fails": fails,
			"work":  work,
			"join":  join,
			"die":   die,
		},
	})
}

// fails CODE COMMAND… runs a command that must end with the code, one line on
// stderr under its own name, and nothing on stdout.
func fails(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: fails CODE COMMAND…")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		code = exit.ExitCode()
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("stdout: %q", out)
	}
	said := ts.ReadFile("stderr")
	if strings.Count(said, "\n") != 1 || !strings.HasPrefix(said, args[1]+": ") {
		ts.Fatalf("not one line with the program's name: %q", said)
	}
}

// checkDatabases asks another program whether each database of a test is sound.
func checkDatabases(t *testing.T, dir string) {
	t.Helper()
	for _, pattern := range []string{"*.db", "*/*.db"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Error(err)
		}
		for _, file := range files {
			out, err := exec.Command("sqlite3", "-readonly", file, `
				PRAGMA integrity_check;
				SELECT 'job ' || id || ' breaks a rule' FROM sync_jobs WHERE
					(status = 'running') <> (lease_expires_at IS NOT NULL) OR
					(status IN ('completed', 'failed', 'cancelled')) <> (completed_at IS NOT NULL) OR
					NOT json_valid(payload) OR attempts < 0`).CombinedOutput()
			if err != nil || string(out) != "ok\n" {
				t.Errorf("%s is not sound: %v\n%s", file, err, out)
			}
		}
	}
}
