package jobs_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

// TestScheduleZone proves that the leader goes by the schedule's zone, on the day
// that is an hour short.
func TestScheduleZone(t *testing.T) {
	saturday := time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC)
	now := clockAt(saturday)
	q := newQueue(t, store.Options{Now: now.now})
	for _, zone := range []string{"Europe/Berlin", "America/New_York", ""} {
		s := jobs.StoredSchedule{Name: "in " + zone, Spec: "30 2 * * *", Zone: zone, Type: "Tick " + zone, Missed: jobs.MissedAll}
		if _, err := q.PutSchedule(q.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	now.set(saturday.Add(48 * time.Hour))
	now.leader(q)
	q.eventually("29 01:30, 30 00:30", ticks, "Tick Europe/Berlin")
	q.eventually("29 06:30, 30 06:30", ticks, "Tick America/New_York")
	q.eventually("29 02:30, 30 02:30", ticks, "Tick ")
}

// TestCronClockSetBack proves that a cron whose clock was a year ahead goes on by
// the right one, and that one that was set back by half an hour doubles nothing.
func TestCronClockSetBack(t *testing.T) {
	now := clockAt(begun.AddDate(1, 0, 0).Add(30 * time.Minute))
	q := newQueue(t, store.Options{Now: now.now})
	put := func(name, spec, jobType string) {
		if _, err := q.PutSchedule(q.Context(), jobs.StoredSchedule{Name: name, Spec: spec, Type: jobType}); err != nil {
			t.Fatal(err)
		}
	}
	put("s", "@hourly", "Tick")
	looks := 0
	looked := func() { // the leader has, since the clock was set: it has come to what stands below s
		looks++
		put(fmt.Sprint("then ", looks), "@every 1000h", fmt.Sprint("Look ", looks))
		q.eventually("1", `SELECT count(*) FROM sync_jobs WHERE job_type = ?`, fmt.Sprint("Look ", looks))
	}
	now.leader(q)
	looked()
	now.set(begun.Add(7*time.Hour + 59*time.Minute))
	looked()
	now.set(begun.Add(8 * time.Hour))
	const last = `SELECT (SELECT count(*) FROM sync_jobs WHERE job_type = 'Tick'), strftime('%d %H:%M', last_at, 'unixepoch')
		FROM sync_schedules WHERE name = 's'`
	q.eventually("1|10 15:00", last)
	now.set(begun.Add(7*time.Hour + 30*time.Minute))
	looked()
	now.set(begun.Add(8*time.Hour + time.Second))
	looked()
	now.set(begun.Add(9 * time.Hour))
	q.eventually("2|10 16:00", last)
}

// TestPause proves that a paused schedule, stored or a program's, enqueues
// nothing, and that what it left out is not made up for; and that it acts soon.
func TestPause(t *testing.T) {
	now := clockAt(begun)
	q := newQueue(t, store.Options{Now: now.now})
	s := jobs.StoredSchedule{Name: "stored", Spec: "@hourly", Type: "Stored", Missed: jobs.MissedAll}
	if _, err := q.PutSchedule(q.Context(), s); err != nil {
		t.Fatal(err)
	}
	now.leader(q, jobs.Schedule{Name: "program", Spec: "@hourly", Missed: jobs.MissedAll, Jobs: func(context.Context) ([]jobs.New, error) {
		n, err := jobs.NewJob("Program", 0)
		return []jobs.New{n}, err
	}})
	names := []string{"stored", "program"}
	q.eventually("2", `SELECT count(*) FROM sync_schedules`)
	pause := func(paused bool) {
		for _, name := range names {
			if err := q.PauseSchedule(q.Context(), name, paused); err != nil {
				t.Fatal(err)
			}
		}
	}
	pause(true)
	now.set(begun.Add(3*time.Hour + 30*time.Minute))
	// What was not paused is ticked after the clock was set: the leader has looked.
	other := jobs.StoredSchedule{Name: "other", Spec: "@every 24h", Type: "Elsewhere"}
	if _, err := q.PutSchedule(q.Context(), other); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	q.eventually("1", `SELECT count(*) FROM sync_jobs`)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("a schedule that was added acted after %v", took)
	}
	pause(false)
	now.set(begun.Add(4 * time.Hour))
	q.eventually("10 11:00", ticks, "Stored")
	q.eventually("1", `SELECT count(*) FROM sync_jobs WHERE job_type = 'Program'`)
	if got := q.value(`SELECT DISTINCT strftime('%H:%M', last_at, 'unixepoch') FROM sync_schedules WHERE name <> 'other'`); got != "11:00" {
		t.Errorf("last ticks: %s", got)
	}
}

// TestStoredBesideProgram proves that the leader runs stored schedules whatever
// its program brings, also where its own Jobs take long; and that one that another
// program wrote wrongly holds up nobody.
func TestStoredBesideProgram(t *testing.T) {
	q := newQueue(t, store.Options{})
	if _, err := q.PutSchedule(q.Context(), jobs.StoredSchedule{Name: "taken", Spec: "@every 10ms", Type: "Often", Payload: "[1,2]"}); err != nil {
		t.Fatal(err)
	}
	slow := make(chan struct{})
	taken := func(context.Context) ([]jobs.New, error) {
		t.Error("a program's schedule ticks under a stored one's name")
		return nil, nil
	}
	w := q.worker(q, jobs.WorkerOptions{Schedules: []jobs.Schedule{{Name: "taken", Spec: "@every 1ms", Jobs: taken}, {Name: "slow", Spec: "@every 1ms",
		Jobs: func(ctx context.Context) ([]jobs.New, error) {
			select {
			case slow <- struct{}{}:
			default:
			}
			<-ctx.Done()
			return nil, nil
		}}}})
	done := make(chan struct{}, 100)
	jobs.Handle(w, "Often", func(_ context.Context, j *jobs.Job[[]int]) error {
		if !slices.Equal(j.Payload, []int{1, 2}) {
			t.Errorf("payload %v", j.Payload)
		}
		done <- struct{}{}
		return nil
	})
	q.start(w)
	expect(t, "the slow one's tick", slow)
	expect(t, "a stored one's tick", done)
	if err := q.PauseSchedule(q.Context(), "taken", true); err != nil { // were it removed, the name would be the program's
		t.Fatal(err)
	}
	q.exec(`INSERT INTO sync_schedules (name, next_at, spec, job_type) VALUES ('zero', 0, '@every 1000h', 'Zero'), ('bad', 0, 'whenever', 'Often'), ('bare', 0, NULL, 'Often')`)
	q.exec(`INSERT INTO sync_schedules (name, next_at, spec, job_type, payload) VALUES ('good', unixepoch() + 0.1234567891, '@every 20ms', 'Often', '[1,2]')`)
	q.eventually("1", `SELECT count(*) FROM sync_jobs WHERE job_type = 'Zero'`)
	q.eventually("1", `SELECT last_at > next_at - 1 FROM sync_schedules WHERE name = 'good'`)
}

// TestProgramSpec proves what becomes of a program's schedule when a new version
// of it says another spec: an interval goes on from where it is, a cron goes by
// its own clock at once. What others paused stays paused.
func TestProgramSpec(t *testing.T) {
	now := clockAt(begun.Add(20 * time.Minute))
	q := newQueue(t, store.Options{Now: now.now})
	none := func(context.Context) ([]jobs.New, error) { return nil, nil }
	for _, c := range []struct{ spec, zone, want string }{
		{"@hourly", "", "@hourly|UTC|10 08:00|0"},
		{"0 3 * * *", "", "0 3 * * *|UTC|11 03:00|0"},
		{"0 3 * * *", "Europe/Berlin", "0 3 * * *|Europe/Berlin|11 02:00|1"},
		{"@every 48h", "", "@every 48h|UTC|11 02:00|1"},
	} {
		stop := now.leader(q, jobs.Schedule{Name: "s", Spec: c.spec, Zone: c.zone, Jobs: none})
		q.eventually(c.want, `SELECT spec, zone, strftime('%d %H:%M', next_at, 'unixepoch'), paused FROM sync_schedules`)
		stop()
		if c.zone == "" && c.spec == "0 3 * * *" {
			if err := q.PauseSchedule(q.Context(), "s", true); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestIdleLeader proves that a leader whose schedules have nothing to do, or are
// not due, writes nothing but its renewals, and that one leads who brings none.
func TestIdleLeader(t *testing.T) {
	q := newQueue(t, store.Options{})
	if _, err := q.PutSchedule(q.Context(), jobs.StoredSchedule{Name: "stored", Spec: "0 0 29 2 *", Type: "Tick"}); err != nil {
		t.Fatal(err)
	}
	looks := make(chan struct{})
	w := q.worker(q, jobs.WorkerOptions{Lease: time.Hour, Now: func() time.Time {
		select {
		case looks <- struct{}{}:
		default:
		}
		return time.Now()
	}})
	jobs.Handle(w, "Tick", func(context.Context, *jobs.Job[int]) error { return nil })
	q.start(w)
	conn, err := q.other.Conn(q.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	version := func() (v int64) {
		if err := conn.QueryRowContext(q.Context(), `PRAGMA data_version`).Scan(&v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	expect(t, "the leader's look", looks)
	before := version()
	for range 3 {
		expect(t, "the leader's look", looks)
	}
	if v := version(); v != before {
		t.Errorf("the file went from version %d to %d", before, v)
	}
}
