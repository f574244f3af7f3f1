package e2e_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// leader is the worker that leads, and the other ones.
func leader(h *home, all ...*worker) (leads *worker, others []*worker) {
	h.Helper()
	eventually(h.T, "a leader", func() bool {
		id := h.sql(`SELECT owner FROM sync_leases WHERE name = 'leader'`)
		leads, others = nil, nil
		for _, w := range all {
			if w.id == id {
				leads = w
			} else {
				others = append(others, w)
			}
		}
		return leads != nil
	})
	return leads, others
}

// TestSchedules runs a stored schedule's life by the commands, on workers one of
// which leads: it acts soon after each command, whoever leads, and no tick comes
// twice.
func TestSchedules(t *testing.T) {
	h := newHome(t)
	args := []string{"--exec", "Tick=cat", "--exec", "Other=cat"}
	first, others := leader(h, h.worker(args...), h.worker(args...))
	const ticks = `SELECT count(*) FROM sync_jobs WHERE job_type = 'Tick'`
	soon := func(what, query string) {
		t.Helper()
		start, before := time.Now(), h.sql(query)
		eventually(t, what, func() bool { return h.sql(query) != before })
		if took := time.Since(start); took > 2*time.Second { // one, and one more on a slow machine
			t.Errorf("%s: acted after %v", what, took)
		}
	}

	h.enqueuer("schedule", "add", "often", "@every 100ms", "Tick", `{"n":1}`, "--priority", "3")
	soon("a new schedule", ticks)
	first.signal(syscall.SIGKILL)
	first.exit()
	leader(h, others...)
	soon("the next leader's tick", ticks)

	h.enqueuer("schedule", "pause", "often")
	paused := h.sql(ticks)
	h.enqueuer("schedule", "add", "proof", "@every 1h", "Other") // its tick shows that the leader has looked
	soon("another schedule", `SELECT count(*) FROM sync_jobs WHERE job_type = 'Other'`)
	if got := h.sql(ticks); got != paused {
		t.Errorf("%s ticks, %s when it was paused", got, paused)
	}
	id := h.enqueuer("schedule", "run-now", "often")
	h.expectStatus(id, "completed")
	if got := h.sql(`SELECT result, priority FROM sync_jobs WHERE id = ` + id); got != `{"n":1}|3` {
		t.Errorf("the job that was run now: %s", got)
	}

	h.enqueuer("schedule", "resume", "often")
	soon("a resumed schedule", ticks)
	h.enqueuer("schedule", "remove", "often")
	if got := h.sql(`SELECT count(*) - count(DISTINCT run_at) FROM sync_jobs WHERE job_type = 'Tick' AND id <> ` + id); got != "0" {
		t.Errorf("%s ticks were enqueued twice", got)
	}
	h.expectAllCompleted()

	// The pings are a schedule, too, which the worker's program brings.
	ping := object[jobs.ScheduleRow](t, strings.Split(h.enqueuer("schedule", "list", "--json"), "\n")[0])
	if ping.Name != "ping" || ping.Spec != "@every 5s" || ping.Type != "" || ping.Paused {
		t.Errorf("the pings: %+v", ping)
	}
	if got := h.enqueuer("schedule", "list"); !strings.Contains(got, "ping   @every 5s        (program)  ") {
		t.Errorf("the list:\n%s", got)
	}
	if _, said, exit := h.run("enqueuer", "schedule", "run-now", "ping"); exit != 0 || !strings.Contains(said, "the leader enqueues its jobs now") {
		t.Errorf("run-now of the pings: exit %d: %s", exit, said)
	}
	if _, said, exit := h.run("enqueuer", "schedule", "add", "ping", "@daily", "Tick"); exit != 1 || !strings.Contains(said, "brought by a program") {
		t.Errorf("add of the pings: exit %d: %s", exit, said)
	}
	h.enqueuer("schedule", "pause", "ping")
	if _, said, exit := h.run("enqueuer", "schedule", "run-now", "ping"); exit != 1 || !strings.Contains(said, "resume it first") {
		t.Errorf("run-now of paused pings: exit %d: %s", exit, said)
	}
}

// TestScheduleRunNowAlone: a stored schedule's job needs no leader to be enqueued
// now, and no worker to have been there.
func TestScheduleRunNowAlone(t *testing.T) {
	h := newHome(t)
	h.enqueuer("enqueue", "Other")
	h.enqueuer("schedule", "add", "nightly", "0 3 * * *", "Tick", "--zone", "America/New_York")
	next := h.sql(`SELECT next_at FROM sync_schedules`)
	id := h.enqueuer("schedule", "run-now", "nightly")
	if got := h.sql(`SELECT job_type, status FROM sync_jobs WHERE id = ` + id); got != "Tick|pending" {
		t.Errorf("job %s: %s", id, got)
	}
	if got := h.sql(`SELECT next_at, last_at FROM sync_schedules`); got != next+"|" {
		t.Errorf("its next tick was at %s, and is %s", next, got)
	}
}
