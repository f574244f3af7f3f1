package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/lease"
)

// oneOfEach makes a job of each status, each with one attempt but the pending one,
// which is delayed, and the cancelled one, which never ran.
func (f *fixture) oneOfEach(seat jobs.Seat) map[jobs.Status]int64 {
	f.Helper()
	ids := make(map[jobs.Status]int64)
	for _, status := range []jobs.Status{jobs.Completed, jobs.Failed, jobs.Running} {
		f.enqueue(jobs.New{MaxAttempts: 1, Unique: jobs.Unique{Key: string(status)}})
		c := f.claimOne(seat)
		ids[status] = c.ID
		switch status {
		case jobs.Completed:
			f.turn(seat, want(0), jobs.Outcome{Ref: c.Ref, Status: status, Result: []byte(`7`)})
		case jobs.Failed:
			f.turn(seat, want(0), jobs.Outcome{Ref: c.Ref, Status: status, Error: "boom"})
		}
	}
	ids[jobs.Pending] = f.enqueue(jobs.New{Delay: time.Hour})[0].ID
	ids[jobs.Cancelled] = f.enqueue(jobs.New{})[0].ID
	f.change(jobs.Change{Verb: jobs.Cancel}, jobs.Filter{IDs: []int64{ids[jobs.Cancelled]}}, ids[jobs.Cancelled])
	return ids
}

// change changes jobs, which are to be those with the ids, in their order.
func (f *fixture) change(c jobs.Change, filter jobs.Filter, ids ...int64) {
	f.Helper()
	changed, err := f.store.Change(f.ctx, filter, c)
	if err != nil || changed.Count != int64(len(ids)) || filter.IDs != nil && !slices.Equal(changed.IDs, ids) {
		f.Errorf("%s %+v changed %+v, %v; want %v", c.Verb, filter, changed, err, ids)
	}
}

// testChange: each verb makes of a job of each status what it promises, or leaves
// it as it is.
func testChange(t *testing.T, f *fixture) {
	seat := f.join(f.store)
	for verb, outcome := range map[jobs.Verb]map[jobs.Status]jobs.Status{ // "": the job is gone
		jobs.Retry:      {jobs.Pending: jobs.Pending, jobs.Completed: jobs.Pending, jobs.Failed: jobs.Pending, jobs.Cancelled: jobs.Pending},
		jobs.Cancel:     {jobs.Pending: jobs.Cancelled, jobs.Running: jobs.Cancelled},
		jobs.Delete:     {jobs.Pending: "", jobs.Completed: "", jobs.Failed: "", jobs.Cancelled: ""},
		jobs.Prioritize: {jobs.Pending: jobs.Pending, jobs.Running: jobs.Running},
	} {
		ids := f.oneOfEach(seat)
		for before, id := range ids {
			row, _ := f.job(id)
			after, allowed := outcome[before]
			if verb.Allows(before) != allowed {
				t.Errorf("%s of a %s job: Allows says %v", verb, before, !allowed)
			}
			if !allowed {
				f.change(jobs.Change{Verb: verb, Priority: 9}, jobs.Filter{IDs: []int64{id}})
				now, _ := f.job(id)
				if now.LeaseLeft, row.LeaseLeft = 0, 0; fmt.Sprint(now) != fmt.Sprint(row) { // time goes on
					t.Errorf("%s changed a %s job: %+v, before: %+v", verb, before, now, row)
				}
				continue
			}
			f.change(jobs.Change{Verb: verb, Priority: 9}, jobs.Filter{IDs: []int64{id}}, id)
			if after == "" {
				if _, _, err := f.store.Job(f.ctx, id); !errors.Is(err, jobs.ErrNotFound) {
					t.Errorf("a deleted %s job: %v", before, err)
				}
				continue
			}
			now := f.expect(id, after, row.Attempts)
			switch verb {
			case jobs.Retry:
				if now.RunAt > jobs.SecondsOf(time.Now()) || now.Result != nil || now.Error != row.Error || now.UniqueKey != "" ||
					row.MaxAttempts > 0 && now.MaxAttempts != row.Attempts+1 || row.MaxAttempts == 0 && now.MaxAttempts != 0 {
					t.Errorf("a %s job, retried: %+v", before, now)
				}
			case jobs.Cancel:
				if now.CompletedAt == 0 || now.UniqueKey != "" || now.Progress != nil {
					t.Errorf("a %s job, cancelled: %+v", before, now)
				}
			case jobs.Prioritize:
				if now.Priority != 9 {
					t.Errorf("a %s job, prioritized: %+v", before, now)
				}
			}
		}
		f.write(`DELETE FROM sync_jobs`)
	}
	is(t, f.store.Read(), `SELECT job_id FROM sync_job_errors`) // no history of jobs that are gone
}

// testChangeFilter: the list has, and a change is of, the jobs to which all of a
// filter applies.
func testChangeFilter(t *testing.T, f *fixture) {
	seat := f.join(f.store)
	now := time.Now().Add(time.Minute)
	hourAgo := now.Add(-time.Hour)
	for _, c := range []struct {
		filter jobs.Filter
		ids    string // of the filter, by the jobs' names
		want   string
	}{
		{filter: jobs.Filter{Type: "B"}, want: "b b-mail"},
		{filter: jobs.Filter{Queue: "mail"}, want: "b-mail mail"},
		{filter: jobs.Filter{Type: "B", Queue: "mail"}, want: "b-mail"},
		{filter: jobs.Filter{Type: "none"}},
		{filter: jobs.Filter{Status: jobs.Running}, want: "running"},
		{filter: jobs.Filter{Status: jobs.Failed}, want: "failed"},
		{filter: jobs.Filter{EndedBefore: hourAgo}, want: "failed"},
		{filter: jobs.Filter{EndedBefore: hourAgo, Status: jobs.Completed}},
		{filter: jobs.Filter{EndedBefore: now}, want: "completed failed cancelled"},
		{filter: jobs.Filter{EndedBefore: now, Status: jobs.Completed}, want: "completed"},
		{filter: jobs.Filter{EndedBefore: now, Status: jobs.Pending}},
		{filter: jobs.Filter{EndedBefore: time.Unix(0, 0)}},
		{ids: "running completed unknown completed", want: "completed running"},
		{filter: jobs.Filter{Status: jobs.Failed}, ids: "completed failed", want: "failed"},
		{filter: jobs.Filter{IDs: []int64{}}},
	} {
		named := map[string]int64{"unknown": 1 << 40}
		for status, id := range f.oneOfEach(seat) {
			named[string(status)] = id
		}
		others := f.enqueue(jobs.New{Type: "B"}, jobs.New{Type: "B", Queue: "mail"}, jobs.New{Queue: "mail"})
		named["b"], named["b-mail"], named["mail"] = others[0].ID, others[1].ID, others[2].ID
		f.write(`UPDATE sync_jobs SET completed_at = completed_at - 3600 WHERE status = 'failed'`)
		for name := range strings.FieldsSeq(c.ids) {
			c.filter.IDs = append(c.filter.IDs, named[name])
		}
		var want, listed []int64
		for name := range strings.FieldsSeq(c.want) {
			want = append(want, named[name])
		}
		rows, err := f.store.Jobs(f.ctx, c.filter)
		for _, r := range slices.Backward(rows) { // oldest first
			listed = append(listed, r.ID)
		}
		if slices.Sort(want); err != nil || !slices.Equal(listed, want) {
			t.Errorf("%+v lists %v, %v; want %v", c.filter, listed, err, want)
		}
		gone := slices.DeleteFunc(want, func(id int64) bool { return id == named["running"] })
		f.change(jobs.Change{Verb: jobs.Delete}, c.filter, gone...)
		for name, id := range named {
			_, _, err := f.store.Job(f.ctx, id)
			if there := err == nil; there != (name != "unknown" && !slices.Contains(gone, id)) {
				t.Errorf("%+v, delete: job %d, %s, is there: %v", c.filter, id, name, there)
			}
		}
		f.write(`DELETE FROM sync_jobs`)
	}
}

func testChangeRefuses(t *testing.T, f *fixture) {
	id := f.enqueue(jobs.New{})[0].ID
	for what, c := range map[string]struct {
		jobs.Change
		jobs.Filter
	}{
		"names nothing": {jobs.Change{Verb: jobs.Delete}, jobs.Filter{Limit: 10}},
		`unknown verb`:  {jobs.Change{Verb: "rerun"}, jobs.Filter{IDs: []int64{id}}},
	} {
		if _, err := f.store.Change(f.ctx, c.Filter, c.Change); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("got %v, want %q", err, what)
		}
	}
	gone, cancel := context.WithCancel(f.ctx)
	cancel()
	if _, err := f.store.Change(gone, jobs.Filter{IDs: []int64{id}}, jobs.Change{Verb: jobs.Delete}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	f.expect(id, jobs.Pending, 0)
	closed := f.another()
	f.must(closed.Close())
	if _, err := closed.Change(f.ctx, jobs.Filter{IDs: []int64{id}}, jobs.Change{Verb: jobs.Delete}); !errors.Is(err, jobs.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

// testChangeGoesOn: a change of many jobs leaves alone what is enqueued while it
// is at it, and when it is ended early what it says it did is what it did.
func testChangeGoesOn(t *testing.T, f *fixture) {
	const n = 200 // large ones: few of them are a bite
	large := slices.Repeat([]jobs.New{{Payload: []byte(`"` + strings.Repeat("x", 200<<10) + `"`)}}, n)
	f.enqueue(large...)
	ctx, cancel := context.WithCancel(f.ctx)
	defer cancel()
	bites := 0
	changed, err := f.store.Change(ctx, jobs.Filter{Type: "A"}, jobs.Change{Verb: jobs.Cancel, Report: func(int64) {
		if bites++; bites == 2 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) || changed.Count == 0 || changed.Count >= n {
		t.Errorf("ended early: %+v, %v", changed, err)
	}
	if s, _ := f.store.Stats(f.ctx); s.Cancelled != changed.Count || s.Pending != n-changed.Count {
		t.Errorf("%d are cancelled, said were %d", s.Cancelled, changed.Count)
	}
	said, late := changed.Count, false
	changed, err = f.store.Change(f.ctx, jobs.Filter{Type: "A"}, jobs.Change{Verb: jobs.Cancel, Report: func(count int64) {
		if !late {
			f.enqueue(jobs.New{})
		}
		said, late = max(said, count), true
	}})
	if err != nil || !late || changed.IDs != nil || said != max(n-changed.Count, changed.Count) {
		t.Errorf("%+v, %v; the last report was %d", changed, err, said)
	}
	if s, _ := f.store.Stats(f.ctx); s.Cancelled != n || s.Pending != 1 {
		t.Errorf("in the end %d are cancelled, %d pending; want %d and the one that came late", s.Cancelled, s.Pending, n)
	}
}

// testCancelRunning: who cancels a running job takes it from its holder, whose
// every later word is refused.
func testCancelRunning(t *testing.T, f *fixture) {
	seat := f.join(f.store)
	for _, span := range []jobs.UniqueFor{jobs.UniqueActive, jobs.UniqueForever} {
		unique := jobs.New{Unique: jobs.Unique{Key: "k " + string(span), For: span}}
		f.enqueue(unique)
		c := f.claimOne(seat)
		holding := []jobs.Holding{{Ref: c.Ref, Progress: &jobs.Progress{Done: 1}}}
		if lost, err := seat.Renew(f.ctx, time.Minute, holding); err != nil || len(lost) > 0 {
			t.Fatalf("lost %v, %v", lost, err)
		}
		f.change(jobs.Change{Verb: jobs.Cancel}, jobs.Filter{IDs: []int64{c.ID}}, c.ID)
		for what, ask := range map[string]func() ([]jobs.Ref, error){
			"Lost":  func() ([]jobs.Ref, error) { return seat.Lost(f.ctx, holding) },
			"Renew": func() ([]jobs.Ref, error) { return seat.Renew(f.ctx, time.Minute, holding) },
		} {
			if lost, err := ask(); err != nil || !slices.Equal(lost, []jobs.Ref{c.Ref}) {
				t.Errorf("%s: %v, %v", what, lost, err)
			}
		}
		late := jobs.Outcome{Ref: c.Ref, Status: jobs.Completed}
		if turn := f.turn(seat, want(2), late); len(turn.Rejected) != 1 || len(turn.Claimed) != 0 {
			t.Errorf("late outcome: %+v", turn)
		}
		if err := seat.Finish(f.ctx, late, nil); !errors.Is(err, lease.ErrLost) {
			t.Errorf("late Finish: %v", err)
		}
		row := f.expect(c.ID, jobs.Cancelled, 1)
		next := f.enqueue(unique)[0]
		if kept := span == jobs.UniqueForever; next.Existing != kept || (row.UniqueKey != "") != kept {
			t.Errorf("unique for %q, cancelled: %+v; the next: %+v", span, row, next)
		}
		if !next.Existing {
			f.change(jobs.Change{Verb: jobs.Delete}, jobs.Filter{Status: jobs.Pending}, next.ID)
		}

		// Once it runs again the first attempt has no more to say than before.
		f.change(jobs.Change{Verb: jobs.Retry}, jobs.Filter{IDs: []int64{c.ID}}, c.ID)
		if second := f.claimOne(seat); second.ID != c.ID || second.Token <= c.Token {
			t.Errorf("claimed %+v after %+v", second, c)
		}
		if turn := f.turn(seat, want(0), late); len(turn.Rejected) != 1 {
			t.Errorf("late outcome: %+v", turn)
		}
		f.expect(c.ID, jobs.Running, 2)
	}
}

// testRetryRuns: a job that used up its attempts gets one more, each time, and
// keeps its story; one that has attempts left gets none.
func testRetryRuns(t *testing.T, f *fixture) {
	seat := f.join(f.store)
	id := f.enqueue(jobs.New{MaxAttempts: 1})[0].ID
	retry, filter := jobs.Change{Verb: jobs.Retry}, jobs.Filter{Type: "A", Status: jobs.Failed}
	for attempt := 1; attempt <= 3; attempt++ {
		c := f.claimOne(seat)
		if c.Attempt != attempt || c.MaxAttempts != attempt {
			t.Errorf("claimed %+v, want attempt %d, the last", c, attempt)
		}
		f.change(retry, filter)
		f.turn(seat, want(0), jobs.Outcome{Ref: c.Ref, Status: jobs.Failed, Error: fmt.Sprint("boom ", attempt)})
		f.change(retry, filter, id)
		row, history := f.job(id)
		if row.Error != fmt.Sprint("boom ", attempt) || len(history) != attempt {
			t.Errorf("retried: %+v, history %+v", row, history)
		}
	}
	c := f.claimOne(seat)
	f.turn(seat, want(0), jobs.Outcome{Ref: c.Ref, Status: jobs.Completed, Result: []byte(`1`)})
	f.expect(id, jobs.Completed, 4)

	other := f.enqueue(jobs.New{MaxAttempts: 5})[0].ID
	c = f.claimOne(seat)
	f.turn(seat, want(0), jobs.Outcome{Ref: c.Ref, Status: jobs.Pending, Delay: time.Hour, Error: "later"})
	f.change(retry, jobs.Filter{IDs: []int64{other}}, other)
	if c = f.claimOne(seat); c.ID != other || c.Attempt != 2 || c.MaxAttempts != 5 {
		t.Errorf("claimed %+v", c)
	}
	f.turn(seat, want(0), jobs.Outcome{Ref: c.Ref, Status: jobs.Completed})

	// What waits already for its turn keeps its place.
	first, second := f.enqueue(jobs.New{})[0].ID, f.enqueue(jobs.New{})[0].ID
	f.change(retry, jobs.Filter{IDs: []int64{first}}, first)
	if c = f.claimOne(seat); c.ID != first {
		t.Errorf("claimed %d before %d: %d was retried and lost its place", second, first, first)
	}
}
