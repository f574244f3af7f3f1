package jobs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

func TestEnqueueOptions(t *testing.T) {
	q := newQueue(t, store.Options{})
	at := time.Now().Add(time.Hour).Truncate(time.Second)
	plain := enqueue(q, "Send", invoice{42})
	full := enqueue(q, "Send", invoice{43}, jobs.Priority(-3), jobs.OnQueue("mail"), jobs.At(at), jobs.Delay(time.Minute),
		jobs.MaxAttempts(7), jobs.Timeout(1500*time.Millisecond), jobs.UniqueKey(jobs.Unique{Key: "43"}))
	row, _ := q.ends(plain, jobs.Pending)
	want := jobs.Row{ID: plain, Type: "Send", Queue: jobs.DefaultQueue, Status: jobs.Pending, Payload: `{"order":42}`, CreatedAt: row.CreatedAt, RunAt: row.CreatedAt}
	if diff := cmp.Diff(want, row); diff != "" {
		t.Error(diff)
	}
	if time.Since(row.CreatedAt.Time()).Abs() > patience {
		t.Errorf("made at %v", row.CreatedAt.Time())
	}
	row, _ = q.ends(full, jobs.Pending)
	want = jobs.Row{
		ID: full, Type: "Send", Queue: "mail", Status: jobs.Pending, Priority: -3, Payload: `{"order":43}`, UniqueKey: "43",
		MaxAttempts: 7, Timeout: 1.5, CreatedAt: row.CreatedAt, RunAt: jobs.SecondsOf(at.Add(time.Minute)),
	}
	if diff := cmp.Diff(want, row); diff != "" {
		t.Error(diff)
	}
}

// TestCheck proves that a job that makes no sense is refused in one line that
// names its type and what is wrong, by NewJob and by the store.
func TestCheck(t *testing.T) {
	q := newQueue(t, store.Options{})
	long := strings.Repeat("n", 256)
	one := json.RawMessage(`1`)
	for says, n := range map[string]jobs.New{
		"job type is empty":                          {Payload: one},
		"at most 255 bytes":                          {Type: long, Payload: one},
		"Send…: a job type or queue":                 {Type: "Send", Queue: long, Payload: one},
		"must be UTF-8":                              {Type: "Send", Unique: jobs.Unique{Key: "\xff"}, Payload: one},
		"Send: payload is not JSON: unexpected":      {Type: "Send", Payload: json.RawMessage(`{"order":`)},
		"payload is not JSON: invalid character 'x'": {Type: "Send", Payload: json.RawMessage(`x`)},
		"Send: payload has 1048577 bytes, at most":   {Type: "Send", Payload: json.RawMessage(`"` + strings.Repeat("x", jobs.MaxPayload-1) + `"`)},
		"Send: delay -1ns is negative":               {Type: "Send", Payload: one, Delay: -1},
		"Send: max attempts -1 is negative":          {Type: "Send", Payload: one, MaxAttempts: -1},
		"Send: timeout -1ns is negative":             {Type: "Send", Payload: one, Timeout: -1},
		"Send: unique key has 513 bytes":             {Type: "Send", Payload: one, Unique: jobs.Unique{Key: strings.Repeat("k", 513)}},
		`Send: unique for "ever"`:                    {Type: "Send", Payload: one, Unique: jobs.Unique{Key: "k", For: "ever"}},
		`Send: on conflict "merge"`:                  {Type: "Send", Payload: one, Unique: jobs.Unique{Key: "k", OnConflict: "merge"}},
	} {
		err := n.Check()
		contains(t, err, says)
		if strings.Contains(fmt.Sprint(err), "\n") {
			t.Errorf("not one line: %v", err)
		}
		_, err = q.Enqueue(t.Context(), jobs.New{Type: "Send", Payload: one}, n)
		contains(t, err, "enqueue: ", says)
	}
	_, err := jobs.Enqueue(t.Context(), q, "Send", make(chan int))
	contains(t, err, "Send: payload: ", "chan int")
	_, err = jobs.NewJob("Send", 1, jobs.Delay(-time.Second))
	contains(t, err, "Send: delay -1s")
	if got := q.value(`SELECT count(*) FROM sync_jobs`); got != "0" {
		t.Errorf("%s jobs were enqueued all the same", got)
	}
	// The bounds themselves are allowed.
	enqueue(q, long[:255], strings.Repeat("x", jobs.MaxPayload-2), jobs.OnQueue(long[:255]), jobs.UniqueKey(jobs.Unique{Key: strings.Repeat("k", jobs.MaxKey)}))
}

// odd is a payload that can't be encoded when it is odd.
type odd int

func (o odd) MarshalJSON() ([]byte, error) {
	if o%2 == 1 {
		return nil, fmt.Errorf("%d is odd", int(o))
	}
	return json.Marshal(int(o))
}

// TestEnqueueMany proves that of several jobs all are enqueued, in their order,
// or none.
func TestEnqueueMany(t *testing.T) {
	q := newQueue(t, store.Options{MaxPending: 5})
	ids, err := jobs.EnqueueMany(t.Context(), q, "Send", []odd{0, 2, 4}, jobs.Priority(2))
	if err != nil || len(ids) != 3 || !slices.IsSorted(ids) {
		t.Errorf("ids %v, %v", ids, err)
	}
	const all = `SELECT group_concat(payload || ':' || priority, ' ') FROM (SELECT * FROM sync_jobs ORDER BY id)`
	want := "0:2 2:2 4:2"
	if got := q.value(all); got != want {
		t.Errorf("enqueued: %s", got)
	}
	_, err = jobs.EnqueueMany(t.Context(), q, "Send", []odd{6, 7})
	contains(t, err, "Send: payload", "7 is odd")
	_, err = jobs.EnqueueMany(t.Context(), q, "Send", []odd{6, 8, 10})
	if !errors.Is(err, jobs.ErrQueueFull) {
		t.Errorf("three where two are allowed: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = jobs.EnqueueMany(ctx, q, "Send", []odd{6}); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
	if ids, err := jobs.EnqueueMany(t.Context(), q, "Send", []odd{}); len(ids) != 0 || err != nil {
		t.Errorf("none: %v, %v", ids, err)
	}
	if got := q.value(all); got != want {
		t.Errorf("in the end: %s", got)
	}
}

// TestUnique walks a key through the life of its job.
func TestUnique(t *testing.T) {
	q := newQueue(t, store.Options{})
	add := func(order int64, u jobs.Unique) int64 {
		t.Helper()
		u.Key = "42"
		return enqueue(q, "Send", invoice{order}, jobs.UniqueKey(u))
	}
	first := add(1, jobs.Unique{})
	if again := add(2, jobs.Unique{}); again != first {
		t.Errorf("a second job %d beside %d", again, first)
	}
	payload := func(want string) {
		t.Helper()
		if row, _ := q.ends(first, jobs.Pending); row.Payload != want {
			t.Errorf("payload %s, want %s", row.Payload, want)
		}
	}
	payload(`{"order":1}`)
	add(3, jobs.Unique{OnConflict: jobs.Replace})
	payload(`{"order":3}`)
	if other := enqueue(q, "Pack", invoice{}, jobs.UniqueKey(jobs.Unique{Key: "42"})); other == first {
		t.Error("the key is not its type's alone")
	}

	w := jobs.NewWorker(q, untilEmpty())
	var during int64
	jobs.Handle(w, "Send", func(ctx context.Context, _ *jobs.Job[invoice]) (err error) {
		during, err = jobs.Enqueue(ctx, q, "Send", invoice{4}, jobs.UniqueKey(jobs.Unique{Key: "42", OnConflict: jobs.Replace}))
		return err
	})
	q.runUntilEmpty(w)
	if during != first {
		t.Errorf("a second job %d beside %d, which ran", during, first)
	}
	if row, _ := q.ends(first, jobs.Completed); row.Payload != `{"order":3}` || row.UniqueKey != "" {
		t.Errorf("the running job was changed: %+v", row)
	}
	if next := add(5, jobs.Unique{}); next == first {
		t.Error("the key is not free after the job's end")
	}
}
