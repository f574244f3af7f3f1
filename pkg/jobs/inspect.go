package jobs

import (
	"context"
	"encoding/json"
	"slices"
	"time"
)

// Inspector looks at a queue without working on it.
type Inspector interface {
	// Jobs lists jobs, newest first.
	Jobs(ctx context.Context, filter Filter) ([]Row, error)
	// Job is one job with its history, oldest attempt first; ErrNotFound.
	Job(ctx context.Context, id int64) (Row, []Attempt, error)
	Stats(ctx context.Context) (Stats, error)
	Workers(ctx context.Context) ([]WorkerRow, error)
	// Schedules lists all schedules, by name.
	Schedules(ctx context.Context) ([]ScheduleRow, error)
	// Policies lists what holds for types and queues, by kind and name.
	Policies(ctx context.Context) ([]PolicyRow, error)
}

// Filter names jobs: those to which all of it applies. Its zero value lists the
// newest 100 jobs.
type Filter struct {
	IDs    []int64 // one of these; nil: any
	Type   string
	Queue  string
	Status Status
	// EndedBefore is for jobs that have ended, in whichever way, and before that;
	// zero: whenever, or not yet.
	EndedBefore time.Time
	Limit       int // of a list; 0: 100
}

// Row is a job as it is stored. A column that is NULL is the zero value of its field.
type Row struct {
	ID          int64           `json:"id"`
	Type        string          `json:"job_type"`
	Queue       string          `json:"queue"`
	Status      Status          `json:"status"`
	Priority    int             `json:"priority"`
	Attempts    int             `json:"attempts"`
	MaxAttempts int             `json:"max_attempts,omitempty"` // 0: not claimed yet, and none named
	Timeout     float64         `json:"timeout,omitempty"`      // seconds
	CreatedAt   Seconds         `json:"created_at"`
	RunAt       Seconds         `json:"run_at"`
	StartedAt   Seconds         `json:"started_at,omitempty"`
	CompletedAt Seconds         `json:"completed_at,omitempty"`
	UniqueKey   string          `json:"unique_key,omitempty"`
	LeaseOwner  int64           `json:"lease_owner,omitempty"`
	LeaseToken  int64           `json:"lease_token,omitempty"`
	LeaseLeft   float64         `json:"lease_left,omitempty"` // seconds that a running job's lease still holds; below 0: it has ended
	Error       string          `json:"error,omitempty"`
	Payload     string          `json:"payload"`
	Meta        json.RawMessage `json:"meta,omitempty"`
	Result      json.RawMessage `json:"result,omitempty"`
	Progress    *Progress       `json:"progress,omitempty"`
}

// Seconds is a time as the tables have it: Unix seconds with fractions; 0: none.
type Seconds float64

// Time is s as a time.Time in the local zone; 0 is the zero time. Any program may
// write such a number: one past farAway is cut to it, either way.
func (s Seconds) Time() time.Time {
	if s == 0 {
		return time.Time{}
	}
	s = max(-farAway, min(s, farAway))
	return time.UnixMicro(int64(float64(s)*1e6 + 0.5))
}

// farAway is in the year 5138: in Unix seconds.
const farAway = 1e11

// SecondsOf is t as Seconds, to the microsecond; the zero time is 0.
func SecondsOf(t time.Time) Seconds {
	if t.IsZero() {
		return 0
	}
	return Seconds(float64(t.UnixMicro()) / 1e6)
}

// Attempt is one that did not complete.
type Attempt struct {
	Attempt   int     `json:"attempt"`
	Token     int64   `json:"lease_token"`
	Worker    int64   `json:"worker_id"`
	Host      string  `json:"host,omitempty"`
	PID       int     `json:"pid,omitempty"`
	StartedAt Seconds `json:"started_at"`
	EndedAt   Seconds `json:"ended_at"`
	Ending    Ending  `json:"ending"`
	Error     string  `json:"error"`
	// Rejected is the outcome that the attempt's worker reported too late.
	Rejected Status `json:"rejected,omitempty"`
}

// Ending says what ended an attempt that did not complete.
type Ending string

// The endings.
const (
	EndedFailed Ending = "failed" // the handler did not complete the job
	EndedDied   Ending = "died"   // its worker died
	EndedStuck  Ending = "stuck"  // its worker, stopped or stuck, let the lease end
)

// Stats counts jobs and workers.
type Stats struct {
	Pending   int64 `json:"pending"`
	Running   int64 `json:"running"`
	Completed int64 `json:"completed"`
	Failed    int64 `json:"failed"`
	Cancelled int64 `json:"cancelled"`
	// Rejected is the number of outcomes that came too late and were refused.
	Rejected int64 `json:"rejected"`
	// Stuck is the number of handlers that ignore the end of their contexts.
	Stuck   int64 `json:"stuck"`
	Workers int64 `json:"workers"`
	Leader  int64 `json:"leader,omitempty"` // worker id; 0: none
	// WALBytes is the size of SQLite's -wal file; 0 where the engine has none. Past
	// 64 MiB some reader keeps a transaction open for long.
	WALBytes int64 `json:"wal_bytes"`
	// Types has a row for each job type and queue with anything pending or running.
	Types []TypeStats `json:"types"`
}

// TypeStats counts the unfinished jobs of a type in a queue.
type TypeStats struct {
	Type    string `json:"job_type"`
	Queue   string `json:"queue"`
	Pending int64  `json:"pending"`
	Running int64  `json:"running"`
	Handled bool   `json:"handled"` // some running worker takes them
}

// WorkerRow is a member of the fleet.
type WorkerRow struct {
	ID          int64  `json:"id"`
	Host        string `json:"host"`
	PID         int    `json:"pid"`
	Concurrency int    `json:"concurrency"`
	// Running is how many jobs it holds: more than Concurrency where some are claimed
	// ahead (WorkerOptions.Concurrency).
	Running int `json:"running"`
	// Stuck is the number of slots that are lost to handlers which don't return
	// though their contexts ended. Their jobs may run elsewhere by now.
	Stuck     int      `json:"stuck"`
	Leader    bool     `json:"leader"`
	StartedAt Seconds  `json:"started_at"`
	Listen    string   `json:"listen,omitempty"`
	Types     []string `json:"types"`
	Queues    []string `json:"queues"`
}

// Handles says whether the worker takes jobs of the type from the queue.
func (w WorkerRow) Handles(jobType, queue string) bool {
	return slices.Contains(w.Types, jobType) && slices.Contains(w.Queues, queue)
}
