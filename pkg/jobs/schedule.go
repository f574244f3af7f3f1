package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"
)

var (
	// ErrNoSchedule means that there is no schedule of that name.
	ErrNoSchedule = errors.New("no such schedule")
	// ErrChanged means that a schedule is not as it was believed to be: its tick
	// was enqueued, or it was moved, paused or removed.
	ErrChanged = errors.New("schedule has changed")
)

// Schedule is periodic work that a program brings along: at each tick the leader
// enqueues what Jobs returns. It is ticked while the leader is of a program that
// brings it, so all workers of a queue should bring the same ones.
type Schedule struct {
	Name   string // in the whole fleet, at most 255 bytes
	Spec   string // "@every 5s" or a cron expression: see [ParseSpec]
	Zone   string // whose clock a cron goes by; empty: UTC
	Missed Missed // empty: MissedSkip
	// Jobs says what a tick enqueues; nothing, and the tick writes nothing. Jobs
	// that come with an error are enqueued, and the error is logged. A slow one
	// delays its own schedule only.
	Jobs func(context.Context) ([]New, error)
}

// Missed says what becomes of ticks that were missed. A tick is missed when, by the
// time that the leader comes to it, a later one is due too, or it is more than a
// minute late. Ticks that a pause left out are never made up for.
type Missed string

// What may become of missed ticks.
const (
	MissedSkip Missed = "skip" // nothing
	MissedOnce Missed = "once" // one tick for all
	MissedAll  Missed = "all"  // each is enqueued
)

// missedAfter is how late a tick may be and not be missed.
const missedAfter = time.Minute

// StoredSchedule is periodic work that is kept in the queue: at each tick the
// leader, of whatever program, enqueues a job. Its run_at is the tick's time.
type StoredSchedule struct {
	Name     string `json:"name"`             // in the whole fleet, at most 255 bytes
	Spec     string `json:"spec"`             // "@every 5s" or a cron expression: see [ParseSpec]
	Zone     string `json:"zone,omitempty"`   // whose clock a cron goes by; empty: UTC
	Missed   Missed `json:"missed,omitempty"` // empty: MissedSkip
	Type     string `json:"job_type,omitempty"`
	Payload  string `json:"payload,omitempty"` // JSON; empty: {}
	Queue    string `json:"queue,omitempty"`   // empty: DefaultQueue
	Priority int    `json:"priority"`
}

// ScheduleRow is a schedule as it is kept in the queue; one without a Type is
// brought by a program, which makes its jobs.
type ScheduleRow struct {
	StoredSchedule
	Paused bool    `json:"paused"`
	NextAt Seconds `json:"next_at"`           // of a program's: as of the last tick that had jobs
	LastAt Seconds `json:"last_at,omitempty"` // the last tick that was enqueued
}

// Check says what is wrong with a schedule, in one line; engines call it before
// they write.
func (s StoredSchedule) Check() error {
	if err := checkSchedule(s.Name, s.Spec, s.Zone, s.Missed); err != nil {
		return err
	}
	if err := s.Job().Check(); err != nil {
		return fmt.Errorf("schedule %s: %w", s.Name, err)
	}
	return nil
}

// Job is what a tick enqueues.
func (s StoredSchedule) Job() New {
	n := New{Type: s.Type, Payload: []byte(s.Payload), Queue: s.Queue, Priority: s.Priority}
	if s.Payload == "" {
		n.Payload = []byte("{}")
	}
	return n
}

func (s Schedule) check() error {
	if s.Jobs == nil {
		return fmt.Errorf("schedule %q: Jobs is missing", s.Name)
	}
	return checkSchedule(s.Name, s.Spec, s.Zone, s.Missed)
}

func checkSchedule(name, spec, zone string, missed Missed) error {
	if err := checkName("schedule", name); err != nil {
		return err
	}
	if _, err := ParseSpec(spec, zone); err != nil {
		return fmt.Errorf("schedule %s: %w", name, err)
	}
	switch missed {
	case "", MissedSkip, MissedOnce, MissedAll:
		return nil
	}
	return fmt.Errorf("schedule %s: missed %q: use skip, once or all", name, missed)
}
