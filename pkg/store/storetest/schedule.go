package storetest

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/lease"
)

// schedule is the row of one, which must be there.
func (f *fixture) schedule(name string) jobs.ScheduleRow {
	f.Helper()
	rows, err := f.store.Schedules(f.ctx)
	f.must(err)
	i := slices.IndexFunc(rows, func(r jobs.ScheduleRow) bool { return r.Name == name })
	if i < 0 {
		f.Fatalf("no schedule %s in %+v", name, rows)
	}
	return rows[i]
}

// lead makes a seat the leader.
func (f *fixture) lead(seat jobs.Seat) lease.Held {
	f.Helper()
	held, err := seat.Acquire(f.ctx, "leader", time.Hour)
	f.must(err)
	return held
}

func program(name string, next time.Time) jobs.ScheduleRow {
	return jobs.ScheduleRow{NextAt: jobs.SecondsOf(next),
		StoredSchedule: jobs.StoredSchedule{Name: name, Spec: "@every 1m", Zone: "UTC", Missed: jobs.MissedSkip}}
}

// testTick: a tick is enqueued once, and only under the leader's token; what a
// program's schedule is, too, only the leader says.
func testTick(t *testing.T, f *fixture) {
	leader, deposed := f.join(f.store), f.join(f.another())
	old := f.lead(deposed)
	first := time.Now().Truncate(time.Millisecond)
	next := first.Add(time.Minute)
	f.must(deposed.Bring(f.ctx, old, program("s", first)))
	n := jobs.New{Type: "A", Payload: []byte(`"tick"`)}
	f.must(deposed.Tick(f.ctx, old, jobs.Due{Name: "s", At: first, Next: next, Last: first}, n))
	f.must(deposed.Release(f.ctx, old))
	held := f.lead(leader)
	rows, err := leader.Schedules(f.ctx)
	if err != nil || len(rows) != 1 || !rows[0].NextAt.Time().Equal(next) || !rows[0].LastAt.Time().Equal(first) {
		t.Fatalf("schedules %+v, %v; want the next tick at %v", rows, err, next)
	}
	later := next.Add(time.Minute)
	for what, c := range map[string]struct{ got, want error }{
		"a deposed leader's tick": {deposed.Tick(f.ctx, old, jobs.Due{Name: "s", At: next, Next: later}, n), lease.ErrLost},
		"a stolen token's tick":   {deposed.Tick(f.ctx, held, jobs.Due{Name: "s", At: next, Next: later}, n), lease.ErrLost},
		"a deposed leader's word": {deposed.Bring(f.ctx, old, program("new", first)), lease.ErrLost},
		"a tick that is over":     {leader.Tick(f.ctx, held, jobs.Due{Name: "s", At: first, Next: later}, n), jobs.ErrChanged},
		"a tick of nothing":       {leader.Tick(f.ctx, held, jobs.Due{Name: "none", At: next, Next: later}, n), jobs.ErrChanged},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: got %v, want %v", what, c.got, c.want)
		}
	}
	if err := leader.Tick(f.ctx, held, jobs.Due{Name: "s", At: next, Next: later, Last: next}, n, n); err != nil {
		t.Error(err)
	}
	if s, _ := f.store.Stats(f.ctx); s.Pending != 3 {
		t.Errorf("%d jobs, want 1 of the first tick and 2 of the second", s.Pending)
	}
	// One that enqueues nothing moves the schedule, and is no last tick.
	if err := leader.Tick(f.ctx, held, jobs.Due{Name: "s", At: later, Next: later.Add(time.Hour)}); err != nil {
		t.Error(err)
	}
	if row := f.schedule("s"); !row.LastAt.Time().Equal(next) || !row.NextAt.Time().Equal(later.Add(time.Hour)) {
		t.Errorf("after a tick without jobs: %+v", row)
	}
	// What another program wrote, nanoseconds for seconds, is far away and no
	// schedule's end: the leader that believes it to be due is believed.
	f.write(`UPDATE sync_schedules SET next_at = 1.79e18 WHERE name = 's'`)
	far := f.schedule("s").NextAt.Time()
	if far.Year() < 5000 {
		t.Errorf("far away: %v", far)
	}
	if err := leader.Tick(f.ctx, held, jobs.Due{Name: "s", At: far, Next: later}); err != nil {
		t.Error(err)
	}
}

// testTickPaused: a leader that has not seen the pause yet enqueues nothing, and
// a resumed schedule's old tick is over.
func testTickPaused(t *testing.T, f *fixture) {
	leader := f.join(f.store)
	held := f.lead(leader)
	n := jobs.New{Type: "A", Payload: []byte(`{}`)}
	at := time.Now().Add(-10 * time.Minute).Truncate(time.Second)
	f.must(leader.Bring(f.ctx, held, program("s", at)))
	due := jobs.Due{Name: "s", At: at, Next: at.Add(time.Minute)}
	for _, paused := range []bool{true, true, false, false} {
		f.must(f.store.PauseSchedule(f.ctx, "s", paused))
		if got := f.schedule("s").Paused; got != paused {
			t.Errorf("paused: %v, want %v", got, paused)
		}
		if err := leader.Tick(f.ctx, held, due, n); !errors.Is(err, jobs.ErrChanged) {
			t.Errorf("a tick when paused is %v: got %v, want jobs.ErrChanged", paused, err)
		}
	}
	now, next := time.Now(), f.schedule("s").NextAt.Time()
	if !next.After(now) || next.After(now.Add(time.Minute)) || next.Sub(at)%time.Minute != 0 {
		t.Errorf("after the pause, at %v, the next of the ticks since %v is %v", now, at, next)
	}
	due = jobs.Due{Name: "s", At: next, Next: next.Add(time.Minute)}
	if err := leader.Tick(f.ctx, held, due, n); err != nil {
		t.Error(err)
	}
	if s, _ := f.store.Stats(f.ctx); s.Pending != 1 {
		t.Errorf("%d jobs, want 1", s.Pending)
	}
}

// testSchedules: what operators do to schedules.
func testSchedules(t *testing.T, f *fixture) {
	put := func(s jobs.StoredSchedule) bool {
		t.Helper()
		replaced, err := f.store.PutSchedule(f.ctx, s)
		f.must(err)
		return replaced
	}
	nightly := jobs.StoredSchedule{Name: "nightly", Spec: "0 3 * * *", Zone: "Europe/Berlin", Type: "A", Payload: `{"n":1}`, Queue: "mail", Priority: 4}
	start := time.Now()
	if put(nightly) {
		t.Error("a new schedule replaced one")
	}
	first := f.schedule("nightly")
	if at := first.NextAt.Time(); !at.After(start) || at.After(start.Add(25*time.Hour)) {
		t.Errorf("next at %v", at)
	}
	if first.Missed != jobs.MissedSkip || first.Payload != nightly.Payload || first.Queue != "mail" || first.Priority != 4 || first.LastAt != 0 {
		t.Errorf("stored: %+v", first)
	}
	// The same spec in the same zone keeps its tick, and its pause; another does not.
	f.must(f.store.PauseSchedule(f.ctx, "nightly", true))
	nightly.Payload, nightly.Missed = "", jobs.MissedAll
	if !put(nightly) {
		t.Error("not said to be replaced")
	}
	if row := f.schedule("nightly"); row.NextAt != first.NextAt || row.Payload != "{}" || row.Missed != jobs.MissedAll || !row.Paused {
		t.Errorf("replaced: %+v", row)
	}
	nightly.Spec = "0 3 1 1 *"
	put(nightly)
	if row := f.schedule("nightly"); row.NextAt == first.NextAt {
		t.Errorf("another spec kept the tick: %+v", row)
	}

	// It runs beside its ticks, even paused; so does none that is a program's.
	before := f.schedule("nightly")
	id, err := f.store.RunSchedule(f.ctx, "nightly")
	f.must(err)
	if job, _ := f.job(id); job.Type != "A" || job.Queue != "mail" || job.Priority != 4 || f.schedule("nightly") != before {
		t.Errorf("run now: %+v", job)
	}
	leader := f.join(f.store)
	held := f.lead(leader)
	hour := start.Add(time.Hour)
	f.must(leader.Bring(f.ctx, held, program("ping", hour)))
	if id, err := f.store.RunSchedule(f.ctx, "ping"); err != nil || id != 0 {
		t.Errorf("a program's, run now: job %d, %v", id, err)
	}
	if at := f.schedule("ping").NextAt.Time(); at.Before(start.Add(-time.Second)) || at.After(time.Now().Add(time.Second)) {
		t.Errorf("a program's is due at %v, want now", at)
	}
	f.must(f.store.PauseSchedule(f.ctx, "ping", true))
	_, err = f.store.RunSchedule(f.ctx, "ping")
	if err == nil || !strings.Contains(err.Error(), "resume it first") {
		t.Errorf("a paused program's, run now: %v", err)
	}
	if err := leader.Bring(f.ctx, held, program("nightly", hour)); !errors.Is(err, jobs.ErrChanged) {
		t.Errorf("a program took a stored schedule's name: %v", err)
	}
	ping := nightly
	ping.Name = "ping"
	if _, err := f.store.PutSchedule(f.ctx, ping); err == nil || f.schedule("ping").Type != "" {
		t.Errorf("a stored schedule took a program's name: %v", err)
	}

	_, errNameless := f.store.RunSchedule(f.ctx, "")
	for _, err := range []error{errNameless, f.store.PauseSchedule(f.ctx, "", true), f.store.RemoveSchedule(f.ctx, "")} {
		if !errors.Is(err, jobs.ErrNoSchedule) {
			t.Errorf("without a name: got %v, want jobs.ErrNoSchedule", err)
		}
	}
	for _, name := range []string{"ping", "nightly"} {
		if err := f.store.RemoveSchedule(f.ctx, name); err != nil {
			t.Error(err)
		}
	}
	_, errRun := f.store.RunSchedule(f.ctx, "ping")
	for what, err := range map[string]error{
		"remove": f.store.RemoveSchedule(f.ctx, "ping"),
		"pause":  f.store.PauseSchedule(f.ctx, "ping", true),
		"run":    errRun,
	} {
		if !errors.Is(err, jobs.ErrNoSchedule) {
			t.Errorf("%s what is not there: got %v, want jobs.ErrNoSchedule", what, err)
		}
	}
	if rows, err := f.store.Schedules(f.ctx); err != nil || len(rows) != 0 {
		t.Errorf("left: %+v, %v", rows, err)
	}
}
