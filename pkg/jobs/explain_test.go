package jobs_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

// TestExplain brings a job into each state, one after the other, and asks why it
// does not run.
func TestExplain(t *testing.T) {
	q := newQueue(t, store.Options{})
	set := func(kind jobs.PolicyKind, name string, p jobs.Policy) {
		t.Helper()
		if err := q.ChangePolicy(t.Context(), kind, name, func(now *jobs.Policy) { *now = p }); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(id int64, reason string, words ...string) {
		t.Helper()
		row, _, err := q.Job(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		x, err := jobs.Explain(t.Context(), q, row, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		said := x.Why + " " + x.Todo
		for _, w := range words {
			if x.Reason != reason || !strings.Contains(said, w) {
				t.Errorf("%s: %s; want %s, %q", x.Reason, said, reason, w)
			}
		}
		if strings.Contains(said, "\n") {
			t.Errorf("more than a line: %q", said)
		}
	}
	one := enqueue(q, "Copy", "one")
	expect(one, "unhandled", "no worker runs", "start one")

	step := make(chan struct{})
	started := make(chan struct{}, 9)
	handle := func(ctx context.Context, j *jobs.Job[string]) error {
		started <- struct{}{}
		select {
		case <-step:
		case <-ctx.Done():
			return ctx.Err()
		}
		if j.Payload == "fails" {
			return fmt.Errorf("no\nroom: %w", errBoom)
		}
		return nil
	}
	w := q.worker(q, jobs.WorkerOptions{Concurrency: 2, MaxAttempts: 2, Lease: 20 * time.Second, RetryDelay: time.Hour})
	jobs.Handle(w, "Copy", handle)
	jobs.Handle(w, "Move", handle)
	stop := q.start(w)
	<-started
	expect(one, "running", "attempt 1 of 2", "on worker 1", "lease holds for another")

	mail := enqueue(q, "Copy", "mail", jobs.OnQueue("mail"))
	expect(mail, "unhandled", "no worker works on queue mail", "--queue mail")
	send := enqueue(q, "Send", "x")
	expect(send, "unhandled", "no worker handles type Send", "--exec 'Send=COMMAND'")
	late := enqueue(q, "Copy", "late", jobs.Delay(90*time.Minute))
	expect(late, "delayed", "it is delayed until", "in 1h30m", fmt.Sprint("job retry ", late))

	set(jobs.OfType, "Copy", jobs.Policy{MaxRunning: 1})
	two := enqueue(q, "Copy", "two")
	expect(two, "limited", "at most 1 of type Copy may run at once", fmt.Sprintf("job %d does", one), "enqueuer type set Copy --max-running")
	set(jobs.OfQueue, "default", jobs.Policy{Paused: true})
	expect(two, "paused", "queue default is paused", "enqueuer queue resume default")
	set(jobs.OfType, "Copy", jobs.Policy{MaxStarts: jobs.Rate{N: 1, Per: time.Hour}})
	three := enqueue(q, "Move", "fails", jobs.MaxAttempts(1))
	set(jobs.OfQueue, "default", jobs.Policy{})
	<-started // two: starts count from when they were bounded, and it is the first
	four := enqueue(q, "Copy", "four")
	expect(four, "limited", "at most 1 of type Copy may start in 1h, and so many have", "the next may in 1h.", "--max-starts")
	expect(three, "busy", "all 2 slots for it are taken", "job prioritize")
	step <- struct{}{}
	<-started // three
	close(step)
	q.ends(three, jobs.Failed)
	expect(three, "ended", "it failed", "after 1 of 1 attempts: no", "job retry")
	q.ends(one, jobs.Completed)
	expect(one, "ended", "it completed")
	q.exec(`UPDATE sync_jobs SET status = 'cancelled', completed_at = unixepoch() WHERE id = ?`, send)
	expect(send, "ended", "it was cancelled", "job retry")

	again := enqueue(q, "Move", "fails")
	q.eventually("pending|1", `SELECT status, attempts FROM sync_jobs WHERE id = ?`, again)
	expect(again, "delayed", "attempt 1 failed (no), and it waits to be tried again")
	// What other programs write: a status alone, nanoseconds for seconds.
	q.exec(`UPDATE sync_jobs SET completed_at = 0 WHERE id = ?`, send)
	expect(send, "ended", "it was cancelled some time ago")
	q.exec(`UPDATE sync_jobs SET run_at = 1.79e18 WHERE id = ?`, again)
	expect(again, "delayed", "until 5138-")
	stop()
	expect(four, "unhandled", "no worker runs")
}
