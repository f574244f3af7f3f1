package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// TestMain plays the roles of the copies that the tests start of this program.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "role" {
		main()
		return
	}
	// The race detector keeps each process for a second at its end.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// tiny proves nothing of speed.
func tiny() sizes {
	return sizes{
		Rounds: 1, Jobs: 100, Processes: []int{1, 2}, Enqueues: 64, Batches: batch, Wakes: 5, Inserts: 5,
		Settle: 100 * time.Millisecond, Idle: 200 * time.Millisecond, Herd: 2, HerdJobs: 2,
		Finished: 500, Backlog: 50, BigJobs: 50, Prune: 100, Starts: 1, Import: 20_000,
	}
}

// TestBench runs all but the peers, which have tests of their own: the table has
// 80 columns, the numbers are whole JSON, and each picture is XML.
func TestBench(t *testing.T) {
	out := t.TempDir()
	var only []string
	for _, m := range measurements() {
		if m.name != "peers" {
			only = append(only, m.name)
		}
	}
	var table bytes.Buffer
	if err := whole(t.Context(), tiny(), only, t.TempDir(), out, &table); err != nil {
		t.Fatalf("%v\n%s", err, table.String())
	}
	t.Log(table.String())
	for l := range strings.Lines(table.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(l, "\n")); n > 80 && !strings.Contains(l, out) && !strings.Contains(l, "not measured") {
			t.Errorf("%d columns: %s", n, l)
		}
	}
	text, err := os.ReadFile(filepath.Join(out, "bench.json"))
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Groups []group }
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Groups) != len(only) {
		t.Errorf("%d groups, want %d", len(got.Groups), len(only))
	}
	pictures := 0
	for _, g := range got.Groups {
		for _, f := range g.Figures {
			if f.Not == "" && f.Value < 0 && !strings.Contains(f.Name, "handler") { // a handler may begin before Enqueue returns
				t.Errorf("%s, %s: %v", g.Name, f.Name, f.Value)
			}
		}
		if g.Picture == nil {
			continue
		}
		pictures++
		f, err := os.Open(filepath.Join(out, g.Name+".svg"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for d := xml.NewDecoder(f); err == nil; {
			_, err = d.Token()
		}
		if !errors.Is(err, io.EOF) {
			t.Errorf("%s.svg: %v", g.Name, err)
		}
	}
	if pictures != 3 {
		t.Errorf("%d pictures, want 3", pictures)
	}
}

// TestLostJob: a run that has lost a job, or has run one twice, is no result.
func TestLostJob(t *testing.T) {
	db := filepath.Join(t.TempDir(), "jobs.db")
	if err := fill(t.Context(), db, 3); err != nil {
		t.Fatal(err)
	}
	if err := raw(db, `UPDATE sync_jobs SET status = 'completed', completed_at = 1, lease_owner = 1, attempts = 1 WHERE id < 3`); err != nil {
		t.Fatal(err)
	}
	if err := once(db, 2); err != nil {
		t.Error(err)
	}
	if err := once(db, 3); err == nil {
		t.Error("nobody noticed that a job is missing")
	}
	if err := raw(db, `UPDATE sync_jobs SET attempts = 2 WHERE id = 3`); err != nil {
		t.Fatal(err)
	}
	if err := once(db, 2); err == nil {
		t.Error("nobody noticed that a job was tried twice")
	}
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		want string
		args []string
	}{
		{usageText, []string{"extra"}},
		{"not defined", []string{"--what"}},
		{"takes one, peers, fleet", []string{"--only", "what"}},
	} {
		err := run(t.Context(), c.args, nil, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.args, err, c.want)
		}
	}
	var help bytes.Buffer
	if err := run(t.Context(), []string{"--help"}, nil, &help, io.Discard); err != nil || help.String() != usageText+"\n" {
		t.Errorf("--help: %v: %q", err, help.String())
	}
}

// TestNotMeasured: what was not measured is in the table, with the reason.
func TestNotMeasured(t *testing.T) {
	var table bytes.Buffer
	notMeasured("asynq", "redis-server: not found").row(&table)
	if got := table.String(); !strings.Contains(got, "asynq") || !strings.Contains(got, "not measured") || !strings.Contains(got, "redis-server: not found") {
		t.Errorf("%q", got)
	}
}
