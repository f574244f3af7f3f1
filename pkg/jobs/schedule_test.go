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

// member is one of a fleet in which each has the same schedules.
type member struct {
	stop  func()
	looks atomic.Int64 // how often its schedule "often" came round
}

// fleet starts n workers, each with a store of its own: "daily" ticks once and
// then in a day, "often" every few milliseconds. Each tick names its worker.
func fleet(q *queue, n int, often func() ([]jobs.New, error)) []*member {
	var all []*member
	for i := range n {
		m := &member{}
		w := q.worker(q.open(store.Options{}), jobs.WorkerOptions{
			Schedules: []jobs.Schedule{
				{Name: "daily", Spec: "@every 24h", Jobs: func(context.Context) ([]jobs.New, error) {
					n, err := jobs.NewJob("Daily", i)
					return []jobs.New{n}, err
				}},
				{Name: "often", Spec: "@every 10ms", Jobs: func(context.Context) ([]jobs.New, error) {
					m.looks.Add(1)
					return often()
				}},
			},
		})
		jobs.Handle(w, "Often", func(context.Context, *jobs.Job[int]) error { return nil })
		m.stop = q.start(w)
		all = append(all, m)
	}
	return all
}

// leader waits until one of them, but not the one who has gone, has looked so
// many times.
func (q *queue) leader(all []*member, gone int, looks int64) int {
	q.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
		for i, m := range all {
			if i != gone && m.looks.Load() >= looks {
				return i
			}
		}
	}
	q.Fatal("nobody leads")
	return 0
}

// TestSchedule proves that of several workers one enqueues the ticks, and that
// when it goes another does, which doubles nothing: the daily tick stays one,
// and there are no more ticks than came round.
func TestSchedule(t *testing.T) {
	q := newQueue(t, store.Options{})
	all := fleet(q, 3, func() ([]jobs.New, error) {
		n, err := jobs.NewJob("Often", 0, jobs.Priority(1))
		return []jobs.New{n}, err
	})
	const daily = `SELECT group_concat(payload) FROM sync_jobs WHERE job_type = 'Daily'`
	first := q.leader(all, -1, 5)
	q.eventually(fmt.Sprint(first), daily)
	for i, m := range all {
		if n := m.looks.Load(); i != first && n != 0 {
			t.Errorf("worker %d looked %d times while %d led", i, n, first)
		}
	}
	all[first].stop()
	start := time.Now()
	second := q.leader(all, first, 5)
	t.Logf("worker %d took over from %d within %v", second, first, time.Since(start))
	if got := q.value(daily); got != fmt.Sprint(first) {
		t.Errorf("the day's ticks: %s, want %d", got, first)
	}
	q.eventually("1", `SELECT count(*) > 3 FROM sync_jobs WHERE job_type = 'Often' AND status = 'completed'`)
	if got := q.value(`SELECT DISTINCT priority FROM sync_jobs WHERE job_type = 'Often'`); got != "1" {
		t.Errorf("priorities: %s", got)
	}
	var looks int64
	for _, m := range all {
		m.stop()
		looks += m.looks.Load()
	}
	if got := q.value(`SELECT count(*) <= ? FROM sync_jobs WHERE job_type = 'Often'`, looks); got != "1" {
		t.Errorf("more ticks than the %d that came round", looks)
	}
}

// TestScheduleNothing proves that a tick with nothing to enqueue, or with
// nonsense, writes nothing, that what comes beside an error is enqueued, and
// that a schedule goes on after each.
func TestScheduleNothing(t *testing.T) {
	q := newQueue(t, store.Options{})
	w := q.worker(q, jobs.WorkerOptions{Schedules: []jobs.Schedule{
		{Name: "a", Spec: "@every 10ms", Jobs: sequence(
			tick{},
			tick{err: errBoom},
			tick{jobs: []jobs.New{{Type: "Tick", Payload: []byte(`1`)}, {Type: "Tick", Payload: []byte(`{`)}}},
			tick{},
			tick{jobs: []jobs.New{{Type: "Tick", Payload: []byte(`2`)}}, err: errBoom},
			tick{jobs: []jobs.New{{Type: "Tick", Payload: []byte(`3`)}, {Type: "Tick", Payload: []byte(`4`)}}},
		)},
	}})
	jobs.Handle(w, "Tick", func(context.Context, *jobs.Job[int]) error { return nil })
	q.start(w)
	q.eventually("2,3,4", `SELECT group_concat(payload) FROM (SELECT * FROM sync_jobs WHERE status = 'completed' ORDER BY id)`)
	if got := q.value(`SELECT count(*) FROM sync_jobs`); got != "3" {
		t.Errorf("%s jobs", got)
	}
}

// TestScheduleSilent proves that a schedule that never has anything leaves no
// trace but what it is: its row does not change.
func TestScheduleSilent(t *testing.T) {
	q := newQueue(t, store.Options{})
	silent := make(chan struct{})
	w := q.worker(q, jobs.WorkerOptions{Schedules: []jobs.Schedule{{Name: "a", Spec: "@every 1ms", Jobs: func(ctx context.Context) ([]jobs.New, error) {
		select {
		case silent <- struct{}{}:
		case <-ctx.Done():
		}
		return nil, nil
	}}}})
	jobs.Handle(w, "Tick", func(context.Context, *jobs.Job[int]) error { return nil })
	q.start(w)
	for range 10 {
		expect(t, "a tick", silent)
	}
	const written = `SELECT (SELECT count(*) FROM sync_jobs), spec, zone, missed, paused, next_at, last_at FROM sync_schedules`
	before := q.value(written)
	if !strings.HasPrefix(before, "0|@every 1ms|UTC|skip|0|") || !strings.HasSuffix(before, "|NULL") {
		t.Errorf("written: %s", before)
	}
	for range 10 {
		expect(t, "a tick", silent)
	}
	if got := q.value(written); got != before {
		t.Errorf("%s became %s", before, got)
	}
}

// TestUntilEmptyNeverLeads proves that a worker that is to stop when all is
// done makes no new work.
func TestUntilEmptyNeverLeads(t *testing.T) {
	q := newQueue(t, store.Options{})
	o := untilEmpty()
	o.Schedules = []jobs.Schedule{{Name: "a", Spec: "@every 1ms", Jobs: func(context.Context) ([]jobs.New, error) {
		t.Error("it leads")
		return nil, nil
	}}}
	w := jobs.NewWorker(q, o)
	jobs.Handle(w, "Wait", func(_ context.Context, j *jobs.Job[int]) error {
		if j.Token < 5 {
			return jobs.Snooze(10 * time.Millisecond)
		}
		return nil
	})
	enqueue(q, "Wait", 0)
	q.runUntilEmpty(w)
	if got := q.value(`SELECT count(*) FROM sync_leases`); got != "0" {
		t.Error("it took the lead")
	}
}

// tick is what one call of a schedule's Jobs returns.
type tick struct {
	jobs []jobs.New
	err  error
}

// sequence returns the ticks one after the other, then nothing any more.
func sequence(ticks ...tick) func(context.Context) ([]jobs.New, error) {
	i := 0
	return func(context.Context) ([]jobs.New, error) {
		if i == len(ticks) {
			return nil, nil
		}
		i++
		return ticks[i-1].jobs, ticks[i-1].err
	}
}

// TestScheduleClockSetBack proves that a schedule whose next tick lies further
// ahead than its interval, as the wall clock was set back, ticks when it would
// have, whoever leads by then.
func TestScheduleClockSetBack(t *testing.T) {
	q := newQueue(t, store.Options{})
	const every, soon = time.Hour, 2 * time.Second // the leader is to be there before
	q.exec(`INSERT INTO sync_schedules (name, next_at) VALUES ('hourly', ?)`, float64(jobs.SecondsOf(time.Now().Add(3*every+soon))))
	ticked := make(chan struct{})
	w := q.worker(q, jobs.WorkerOptions{Schedules: []jobs.Schedule{{Name: "hourly", Spec: "@every 1h",
		Jobs: func(context.Context) ([]jobs.New, error) {
			n, err := jobs.NewJob("Hourly", 0)
			return []jobs.New{n}, err
		}}}})
	jobs.Handle(w, "Hourly", func(context.Context, *jobs.Job[int]) error { close(ticked); return nil })
	q.start(w)
	expect(t, "the tick", ticked)
}
