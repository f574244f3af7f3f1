package storetest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
)

func testEnqueue(t *testing.T, f *fixture) {
	at := time.Now().Add(time.Hour).Truncate(time.Second)
	added := f.enqueue(
		jobs.New{Payload: []byte(`{"n":1}`)},
		jobs.New{Type: "B", Payload: []byte(`2`), Queue: "mail", Priority: 7, RunAt: at, MaxAttempts: 9, Timeout: 90 * time.Second})
	if len(added) != 2 || added[0].ID >= added[1].ID || added[0].Existing || added[1].Existing {
		t.Fatalf("added %+v", added)
	}
	a, _ := f.job(added[0].ID)
	if a.Type != "A" || a.Payload != `{"n":1}` || a.Queue != "default" || a.Status != jobs.Pending || a.MaxAttempts != 0 {
		t.Errorf("first: %+v", a)
	}
	b, _ := f.job(added[1].ID)
	if b.Type != "B" || b.Queue != "mail" || b.Priority != 7 || !b.RunAt.Time().Equal(at) || b.MaxAttempts != 9 || b.Timeout != 90 {
		t.Errorf("second: %+v", b)
	}
}

// testMeta: what travels with a job is claimed with it; what others wrote there
// that is no such thing costs no job.
func testMeta(t *testing.T, f *fixture) {
	with := map[string]string{"traceparent": "00-abc", "tenant": `ö"<&`}
	added := f.enqueue(jobs.New{Priority: 3, Meta: with}, jobs.New{Priority: 2},
		jobs.New{Priority: 1, Unique: jobs.Unique{Key: "k"}, Meta: map[string]string{"old": "1"}})
	again := f.enqueue(jobs.New{Unique: jobs.Unique{Key: "k", OnConflict: jobs.Replace}, Meta: map[string]string{"new": "1"}})
	f.enqueue(jobs.New{Unique: jobs.Unique{Key: "k"}, Meta: map[string]string{"kept": "1"}})
	if again[0].ID != added[2].ID {
		t.Errorf("added %+v, then %+v", added, again)
	}
	bad := f.enqueue(jobs.New{Priority: -1})[0].ID
	f.write(`UPDATE sync_jobs SET meta = '{"n":1}' WHERE id = ` + idText(bad))
	claimed := f.turn(f.join(f.store), want(9)).Claimed
	var got []map[string]string
	for _, c := range claimed {
		got = append(got, c.Meta)
	}
	if want := []map[string]string{with, nil, {"new": "1"}, nil}; !reflect.DeepEqual(got, want) {
		t.Errorf("claimed with %v, want %v", got, want)
	}
	if row, _ := f.job(added[0].ID); string(row.Meta) != `{"tenant":"ö\"\u003c\u0026","traceparent":"00-abc"}` {
		t.Errorf("row: %s", row.Meta)
	}
	for says, meta := range map[string]map[string]string{
		"at most 16384": {"a": strings.Repeat("x", jobs.MaxMeta)},
		"UTF-8":         {"a": "\xff"},
		"one byte":      {"": "x"},
	} {
		_, err := f.store.Enqueue(f.ctx, jobs.New{Type: "A", Payload: []byte(`1`), Meta: meta})
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want %q", err, says)
		}
	}
}

func testEnqueueRefuses(t *testing.T, f *fixture) {
	for what, n := range map[string]jobs.New{
		"1 MiB":        {Type: "A", Payload: []byte(`"` + strings.Repeat("x", jobs.MaxPayload) + `"`)},
		"not JSON":     {Type: "A", Payload: []byte(`{"a":}`)},
		"is empty":     {Payload: []byte(`1`)},
		"is negative":  {Type: "A", Payload: []byte(`1`), MaxAttempts: -1},
		"unique for":   {Type: "A", Payload: []byte(`1`), Unique: jobs.Unique{Key: "k", For: "a while"}},
		"on conflict":  {Type: "A", Payload: []byte(`1`), Unique: jobs.Unique{Key: "k", OnConflict: "merge"}},
		"must be UTF-": {Type: "A\xff", Payload: []byte(`1`)},
	} {
		// One bad job refuses the whole batch.
		_, err := f.store.Enqueue(f.ctx, jobs.New{Type: "A", Payload: []byte(`1`)}, n)
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("want an error with %q, got %v", what, err)
		}
	}
	if s, err := f.store.Stats(f.ctx); err != nil || s.Pending != 0 {
		t.Errorf("%d jobs were enqueued all the same, %v", s.Pending, err)
	}
}

func testUnique(t *testing.T, f *fixture) {
	key := func(verb jobs.OnConflict) jobs.Unique { return jobs.Unique{Key: "k", OnConflict: verb} }
	first := f.enqueue(jobs.New{Payload: []byte(`1`), Unique: key("")})[0]
	for _, c := range []struct {
		verb    jobs.OnConflict
		payload string
	}{{jobs.Keep, `1`}, {jobs.Replace, `2`}} {
		got := f.enqueue(jobs.New{Payload: []byte(`2`), Unique: key(c.verb)})[0]
		if got != (jobs.Added{ID: first.ID, Existing: true}) {
			t.Errorf("%s: added %+v, want the existing %d", c.verb, got, first.ID)
		}
		if row, _ := f.job(first.ID); row.Payload != c.payload {
			t.Errorf("%s: payload is %s, want %s", c.verb, row.Payload, c.payload)
		}
	}
	at := time.Now().Add(time.Hour)
	f.enqueue(jobs.New{RunAt: at, Unique: key(jobs.Move)})
	if row, _ := f.job(first.ID); row.RunAt.Time().Sub(at).Abs() > time.Millisecond || row.Payload != `2` {
		t.Errorf("move: runs at %v with %s", row.RunAt.Time(), row.Payload)
	}
	// The key is a type's; and twins in one call are one job.
	twins := f.enqueue(jobs.New{Type: "B", Unique: key("")}, jobs.New{Type: "B", Unique: key("")})
	if twins[0].Existing || !twins[1].Existing || twins[0].ID != twins[1].ID || twins[0].ID == first.ID {
		t.Errorf("twins: %+v", twins)
	}
}

// testUniqueSpans walks jobs of each span through claim and end, and tries the
// key at each step.
func testUniqueSpans(t *testing.T, f *fixture) {
	seat := f.join(f.store)
	for _, c := range []struct {
		span                 jobs.UniqueFor
		whileRunning, atLast bool // the key is still taken
	}{
		{jobs.UniquePending, false, false},
		{jobs.UniqueActive, true, false},
		{jobs.UniqueForever, true, true},
	} {
		n := jobs.New{Unique: jobs.Unique{Key: string(c.span), For: c.span, OnConflict: jobs.Replace}}
		first := f.enqueue(n)[0]
		claimed := f.claimOne(seat)
		if claimed.ID != first.ID {
			t.Fatalf("claimed %d, want %d", claimed.ID, first.ID)
		}
		n.Payload = []byte(`"other"`)
		during := f.enqueue(n)[0]
		if during.Existing != c.whileRunning {
			t.Errorf("%s: existing while running: %v", c.span, during.Existing)
		}
		if row, _ := f.job(first.ID); row.Payload != `{}` {
			t.Errorf("%s: the payload of a running job was replaced", c.span)
		}
		f.turn(seat, want(0), jobs.Outcome{Ref: claimed.Ref, Status: jobs.Completed})
		if !during.Existing {
			f.turn(seat, want(0), jobs.Outcome{Ref: f.claimOne(seat).Ref, Status: jobs.Completed})
		}
		after := f.enqueue(n)[0]
		if after.Existing != c.atLast {
			t.Errorf("%s: existing at last: %v", c.span, after.Existing)
		}
		if !after.Existing {
			f.turn(seat, want(0), jobs.Outcome{Ref: f.claimOne(seat).Ref, Status: jobs.Completed})
		}
	}
}

// testUniqueRace proves that of 64 enqueuers who race over two connections one
// makes the job, and that the others get its id.
func testUniqueRace(t *testing.T, f *fixture) {
	stores := []Store{f.store, f.another()}
	got := make([]jobs.Added, 64)
	var all sync.WaitGroup
	for i := range got {
		all.Go(func() {
			added, err := stores[i%2].Enqueue(f.ctx, jobs.New{Type: "A", Payload: []byte(`1`), Unique: jobs.Unique{Key: "one"}})
			if err != nil {
				t.Error(err)
				return
			}
			got[i] = added[0]
		})
	}
	all.Wait()
	made := 0
	for _, a := range got {
		if !a.Existing {
			made++
		}
		if a.ID != got[0].ID {
			t.Errorf("ids %d and %d", a.ID, got[0].ID)
		}
	}
	if made != 1 {
		t.Errorf("%d enqueuers made a job, want 1", made)
	}
}

// testAbandonedEnqueues proves that what returned an error because its context
// had ended was not written, and what returned an id was.
func testAbandonedEnqueues(t *testing.T, f *fixture) {
	var mu sync.Mutex
	acknowledged := make(map[string]bool)
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			ctx, cancel := context.WithCancel(f.ctx)
			if i%2 == 0 {
				go cancel()
			}
			defer cancel()
			_, err := f.store.Enqueue(ctx, jobs.New{Type: "A", Payload: fmt.Appendf(nil, `%d`, i)})
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			acknowledged[fmt.Sprint(i)] = err == nil
		})
	}
	all.Wait()
	for _, payload := range texts(t, f.store.Read(), `SELECT payload FROM sync_jobs`) {
		if !acknowledged[payload] {
			t.Errorf("%s is there twice, or was given up", payload)
		}
		delete(acknowledged, payload)
	}
	for payload, yes := range acknowledged {
		if yes {
			t.Errorf("%s was acknowledged and is not there", payload)
		}
	}
}
