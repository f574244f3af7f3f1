//go:build linux

package torture_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// event is a line of a history. Its time is CLOCK_MONOTONIC in ns, one clock for
// all processes. What changes the database has a line when it is called and
// another when it has returned; what only may (a turn that finds nothing, a
// reap) one line at its return, with the time of the call in From.
type event struct {
	At   int64  `json:"at"`
	From int64  `json:"from,omitempty"`
	Op   string `json:"op"`
	Call int64  `json:"call,omitempty"` // pairs a call with its return
	Done bool   `json:"done,omitempty"` // this is the return
	Err  string `json:"err,omitempty"`
	Fate fate   `json:"fate,omitempty"` // of a call that returned an error

	Keys     []string  `json:"keys,omitempty"` // of jobs that are enqueued
	IDs      []int64   `json:"ids,omitempty"`
	Outcomes []outcome `json:"outcomes,omitempty"`
	Claimed  []claim   `json:"claimed,omitempty"`
	Refs     []ref     `json:"refs,omitempty"` // rejected, lost, held or reaped
	Lost     []ref     `json:"lost,omitempty"` // of a renewal's Refs
	Token    int64     `json:"token,omitempty"`
	ID       int64     `json:"id,omitempty"` // a seat's number, or a job's
	Note     string    `json:"note,omitempty"`
}

// attempt is the one that a handler's line is about.
func (e event) attempt() ref { return ref{ID: e.ID, Token: e.Token} }

// next is the attempt that follows.
func (r ref) next() ref { return ref{ID: r.ID, Token: r.Token + 1} }

// fate is what an error says of what became of the call.
type fate string

const (
	failed  fate = "failed"  // it has not happened
	refused fate = "refused" // lease.ErrLost or jobs.ErrChanged: another has the job or the lease, or was there first
	unknown fate = "unknown" // also of calls that never returned
)

type ref struct {
	ID     int64 `json:"i"`
	Token  int64 `json:"t"`
	Failed bool  `json:"f,omitempty"` // of a reaped job
}

type outcome struct {
	ref
	Status    string `json:"s"`
	Uncounted bool   `json:"u,omitempty"`
}

type claim struct {
	ref
	Attempt int    `json:"a"`
	Type    string `json:"ty"`
}

func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err)
	}
	return ts.Nano()
}

// history is what one process writes of itself: a write(2) for each line, so
// that what was written survives the process. The kernel survives all that the
// test does, and the file lies outside of the file systems that it cuts off.
type history struct {
	mu    sync.Mutex
	file  *os.File
	calls atomic.Int64
}

func openHistory(path string) *history {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		panic(err)
	}
	return &history{file: f}
}

// add notes e as happening now.
func (h *history) add(e event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if e.At == 0 {
		e.At = monotonic()
	}
	line, err := json.Marshal(e)
	if err == nil {
		_, err = h.file.Write(append(line, '\n'))
	}
	if err != nil {
		panic(err)
	}
}

// begin notes a call, and end its return.
func (h *history) begin(e event) (end func(event)) {
	call := h.calls.Add(1)
	e.Call = call
	op := e.Op
	h.add(e)
	return func(e event) {
		e.At, e.Op, e.Call, e.Done = 0, op, call, true
		h.add(e)
	}
}

// record is the history of one process.
type record struct {
	name   string
	events []event
}

// readHistories reads what all processes wrote. The last line of one that was
// killed while it wrote may be cut off.
func readHistories(t testing.TB, dir string) (all []record) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.history"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no histories in %s: %v", dir, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		r := record{name: strings.TrimSuffix(filepath.Base(file), ".history")}
		for line := range bytes.Lines(text) {
			var e event
			if err := json.Unmarshal(line, &e); err == nil {
				r.events = append(r.events, e)
			} else if bytes.HasSuffix(line, []byte("\n")) {
				t.Fatalf("%s: %v: %s", file, err, line)
			}
		}
		all = append(all, r)
	}
	return all
}
