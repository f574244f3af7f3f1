package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/shoal-project/shoal/pkg/store"
)

// noop is the type of the jobs that do nothing.
const noop = "Noop"

// role is what a copy of this program is to do, and where.
type role struct {
	Kind   string
	DB     string
	Number int // among those that play it at once
	Slots  int
	Jobs   int           // after how many it ends; 0: when nothing is left
	Pause  time.Duration // between two jobs of a producer: a random time, this on average
	Poll   time.Duration // jobs.WorkerOptions.Poll
}

// report is what a process says at its end.
type report struct {
	Jobs       int
	Begin, End time.Time // when it was told to begin; its last commit
	Claims     times     `json:",omitzero"` // of the turns that claimed something
	// Memory is the most that the process ever had, in bytes: after a fifth of its
	// Jobs, and at its end; 0: it can't be told.
	Memory [2]int64
	// At says when something happened to a job, by its id, in nanoseconds of the
	// kernel's monotonic clock, which all processes share: its handler began, or its
	// enqueue returned.
	At   map[int64]int64         `json:",omitempty"`
	Took map[int64]time.Duration `json:",omitempty"` // the claim's transaction from its begin on, of an idle worker
}

// stage is where a role is played: a process's standard streams.
type stage struct {
	in  io.Reader
	out io.Writer
}

// ready says that the role can begin.
func (s stage) ready() { fmt.Fprintln(s.out, "ready") }

// begin says that the role can begin, and waits until it may: for the end of the
// input.
func (s stage) begin() error {
	s.ready()
	return s.over()
}

func (s stage) over() error {
	_, err := io.Copy(io.Discard, s.in)
	return err
}

// part plays a role, to its end.
type part func(role, stage) (report, error)

// onStore is a part that is played with Shoal's own store.
func onStore(play func(role, stage, store.Store) (report, error)) part {
	return func(r role, s stage) (report, error) {
		q, err := store.Open(context.Background(), r.DB)
		if err != nil {
			return report{}, err
		}
		defer q.Close()
		return play(r, s, q)
	}
}

// onFile is a part that is played with the driver alone.
func onFile(play func(role, stage, *sqlite3.Conn) (report, error)) part {
	return func(r role, s stage) (report, error) {
		conn, err := openRaw(r.DB)
		if err != nil {
			return report{}, err
		}
		defer conn.Close()
		// A limit has no triggers. Another program has those of the schema.
		if _, err := conn.Config(sqlite3.DBCONFIG_ENABLE_TRIGGER, r.Kind == "foreigner"); err != nil {
			return report{}, err
		}
		return play(r, s, conn)
	}
}

// play plays a role and reports.
func play(r role, stdin io.Reader, stdout io.Writer) error {
	parts := map[string]part{
		"bare":      onFile(bare),
		"worker":    onStore(worker),
		"idle":      onStore(idle),
		"first":     onStore(first),
		"enqueue":   onStore(enqueue),
		"batches":   onStore(batches),
		"insert":    onFile(inserts),
		"producer":  onStore(producer),
		"foreigner": onFile(foreigner),
	}
	part := parts[r.Kind]
	if part == nil {
		return fmt.Errorf("no such role: %q", r.Kind)
	}
	out, err := part(r, stage{stdin, stdout})
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(out)
}
