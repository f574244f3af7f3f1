package jobs_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

// clock is a wall clock that goes on from where it was set.
type clock struct{ ahead atomic.Int64 }

func clockAt(now time.Time) *clock {
	c := &clock{}
	c.set(now)
	return c
}

func (c *clock) set(now time.Time) { c.ahead.Store(int64(time.Until(now))) }
func (c *clock) now() time.Time    { return time.Now().Add(time.Duration(c.ahead.Load())) }

// leader starts a worker that handles nothing of what is scheduled.
func (c *clock) leader(q *queue, schedules ...jobs.Schedule) (stop func()) {
	q.Helper()
	w := q.worker(q.open(store.Options{Now: c.now}), jobs.WorkerOptions{Now: c.now, Schedules: schedules})
	jobs.Handle(w, "Other", func(context.Context, *jobs.Job[int]) error { return nil })
	return q.start(w)
}

// begun is the morning at which the tests of a clock begin.
var begun = time.Date(2026, 3, 10, 7, 0, 0, 0, time.UTC)

// ticks is a query for the ticks of a stored schedule whose job type is its
// name, as times of day.
const ticks = `SELECT group_concat(strftime('%d %H:%M', run_at, 'unixepoch'), ', ') FROM
	(SELECT run_at FROM sync_jobs WHERE job_type = ? ORDER BY id)`

// TestMissed proves what becomes of ticks that came while nobody led: an hourly
// schedule, and a worker that begins ten minutes after the fourth of its ticks,
// or half a minute after it. Then the next one comes in its time.
func TestMissed(t *testing.T) {
	for missed, c := range map[jobs.Missed]struct{ late, soon, later string }{
		jobs.MissedSkip: {"NULL", "10 11:00", "10 12:00"},
		jobs.MissedOnce: {"10 11:00", "10 11:00", "10 11:00, 10 12:00"},
		jobs.MissedAll: {"10 08:00, 10 09:00, 10 10:00, 10 11:00", "10 08:00, 10 09:00, 10 10:00, 10 11:00",
			"10 08:00, 10 09:00, 10 10:00, 10 11:00, 10 12:00"},
	} {
		t.Run(string(missed), func(t *testing.T) {
			for by, want := range map[time.Duration]string{10 * time.Minute: c.late, 30 * time.Second: c.soon} {
				t.Run(by.String(), func(t *testing.T) {
					q := newQueue(t, store.Options{Now: func() time.Time { return begun }})
					_, err := q.PutSchedule(q.Context(), jobs.StoredSchedule{Name: "s", Spec: "@hourly", Type: "Tick", Missed: missed})
					if err != nil {
						t.Fatal(err)
					}
					now := clockAt(begun.Add(4*time.Hour + by))
					stop := now.leader(q)
					q.eventually("10 12:00", `SELECT strftime('%d %H:%M', next_at, 'unixepoch') FROM sync_schedules`)
					if got := q.value(ticks, "Tick"); got != want {
						t.Errorf("enqueued %s, want %s", got, want)
					}
					if by < time.Minute {
						return
					}
					now.set(begun.Add(5 * time.Hour))
					q.eventually(c.later, ticks, "Tick")
					stop()
				})
			}
		})
	}
}

// TestMissedAllInBites proves that a long absence is made up for tick by tick,
// each once, by two would-be leaders that follow each other in the middle of it.
func TestMissedAllInBites(t *testing.T) {
	q := newQueue(t, store.Options{Now: func() time.Time { return begun }})
	_, err := q.PutSchedule(q.Context(), jobs.StoredSchedule{Name: "s", Spec: "* * * * *", Type: "Tick", Missed: jobs.MissedAll})
	if err != nil {
		t.Fatal(err)
	}
	const minutes = 2000
	now := clockAt(begun.Add(minutes*time.Minute + time.Second))
	first := now.leader(q)
	now.leader(q)
	q.eventually("1", `SELECT count(*) > 0 FROM sync_jobs`)
	first()
	q.eventually(fmt.Sprint(minutes), `SELECT count(*) FROM sync_jobs`)
	q.eventually("0", `SELECT count(*) FROM sync_schedules WHERE next_at <= ?`, float64(jobs.SecondsOf(now.now())))
	if got := q.value(`SELECT count(DISTINCT run_at), CAST(min(run_at) AS INTEGER), CAST(max(run_at) AS INTEGER) FROM sync_jobs`); got !=
		fmt.Sprintf("%d|%v|%v", minutes, begun.Add(time.Minute).Unix(), begun.Add(minutes*time.Minute).Unix()) {
		t.Errorf("ticks, first and last: %s", got)
	}
}

// TestMissedAllInSmallBites proves that the missed ticks of a large payload are
// enqueued a transaction each: others wait for those.
func TestMissedAllInSmallBites(t *testing.T) {
	q := newQueue(t, store.Options{})
	large := `"` + strings.Repeat("x", 700<<10) + `"`
	if _, err := q.PutSchedule(q.Context(), jobs.StoredSchedule{Name: "s", Spec: "* * * * *", Type: "Tick", Payload: large, Missed: jobs.MissedAll}); err != nil {
		t.Fatal(err)
	}
	clockAt(time.Now().Add(5 * time.Minute)).leader(q)
	q.eventually("1", `SELECT count(*) BETWEEN 4 AND 6 FROM sync_jobs`)
	q.eventually("1", `SELECT count(*) = count(DISTINCT created_at) FROM sync_jobs`)
}

// TestScheduleLongGap proves that years of missed minutes don't hold up the
// leader: it finds the tick that is due.
func TestScheduleLongGap(t *testing.T) {
	q := newQueue(t, store.Options{Now: func() time.Time { return begun }})
	_, err := q.PutSchedule(q.Context(), jobs.StoredSchedule{Name: "s", Spec: "* * * * *", Type: "Tick"})
	if err != nil {
		t.Fatal(err)
	}
	clockAt(begun.AddDate(20, 0, 0).Add(30 * time.Second)).leader(q)
	q.eventually("10 07:00", ticks, "Tick")
}

// TestProgramMissed proves that a program's schedule is asked for each missed
// tick, and that ticks without jobs are not asked for again by who leads next.
func TestProgramMissed(t *testing.T) {
	q := newQueue(t, store.Options{})
	now := clockAt(begun)
	asked := make(chan struct{}, 100)
	hourly := jobs.Schedule{Name: "hourly", Spec: "@hourly", Missed: jobs.MissedAll, Jobs: func(context.Context) ([]jobs.New, error) {
		asked <- struct{}{}
		return nil, nil
	}}
	stop := now.leader(q, hourly)
	const next = `SELECT strftime('%d %H:%M', next_at, 'unixepoch') FROM sync_schedules`
	q.eventually("10 08:00", next)
	stop()
	now.set(begun.Add(3*time.Hour + 30*time.Minute))
	for range 2 {
		stop = now.leader(q, hourly)
		q.eventually("10 11:00", next)
		stop()
	}
	if n := len(asked); n != 3 {
		t.Errorf("asked %d times for 3 ticks", n)
	}
}
