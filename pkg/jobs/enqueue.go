package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"
)

// An Option sets one thing of a job to enqueue.
type Option func(*New)

// Delay has the job wait d from now, on the store's clock.
func Delay(d time.Duration) Option { return func(n *New) { n.Delay = d } }

// At has the job wait until t.
func At(t time.Time) Option { return func(n *New) { n.RunAt = t } }

// Priority is 0 by default; among due jobs the higher is claimed first.
func Priority(p int) Option { return func(n *New) { n.Priority = p } }

// OnQueue puts the job into a queue other than DefaultQueue.
func OnQueue(name string) Option { return func(n *New) { n.Queue = name } }

// MaxAttempts bounds how often the job is tried.
func MaxAttempts(n int) Option { return func(job *New) { job.MaxAttempts = n } }

// Timeout bounds each attempt.
func Timeout(d time.Duration) Option { return func(n *New) { n.Timeout = d } }

// UniqueKey makes the job the only one of its type with that key; see Unique.
func UniqueKey(u Unique) Option { return func(n *New) { n.Unique = u } }

// Meta has something travel with the job beside its payload: a trace, a tenant.
// Handlers and middleware see it as Job.Meta.
func Meta(key, value string) Option {
	return func(n *New) {
		if n.Meta == nil {
			n.Meta = make(map[string]string)
		}
		n.Meta[key] = value
	}
}

// Enqueue adds one job, durably when it returns, and returns its id: that of
// the job which has the key already, if it is Unique. The payload is encoded by
// encoding/json. Errors: those of [New.Check] and Store.Enqueue.
func Enqueue[T any](ctx context.Context, q Store, jobType string, payload T, opts ...Option) (int64, error) {
	ids, err := EnqueueMany(ctx, q, jobType, []T{payload}, opts...)
	if err != nil {
		return 0, err
	}
	return ids[0], nil
}

// EnqueueMany adds a job for each payload, all or none; the ids are in their order.
func EnqueueMany[T any](ctx context.Context, q Store, jobType string, payloads []T, opts ...Option) ([]int64, error) {
	batch := make([]New, len(payloads))
	for i, payload := range payloads {
		n, err := NewJob(jobType, payload, opts...)
		if err != nil {
			return nil, err
		}
		batch[i] = n
	}
	added, err := q.Enqueue(ctx, batch...)
	if err != nil {
		return nil, err
	}
	ids := make([]int64, len(added))
	for i, a := range added {
		ids[i] = a.ID
	}
	return ids, nil
}

// NewJob makes a job for Store.Enqueue, Job.Commit or a schedule, and checks it.
func NewJob(jobType string, payload any, opts ...Option) (New, error) {
	encoded, err := json.Marshal(payload)
	if err != nil {
		return New{}, fmt.Errorf("%s: payload: %w", jobType, err)
	}
	n := New{Type: jobType, Payload: encoded}
	for _, opt := range opts {
		opt(&n)
	}
	return n, n.Check()
}

// maxName bounds a job type's and a queue's name, in bytes.
const maxName = 255

// checkName says what is wrong with the name of something.
func checkName(what, name string) error {
	if name == "" || len(name) > maxName || !utf8.ValidString(name) {
		return fmt.Errorf("%s name %.60q: 1 to %d bytes of UTF-8", what, name, maxName)
	}
	return nil
}

// Check says what is wrong with a job, in one line; engines call it before
// they write.
func (n New) Check() error {
	switch {
	case n.Type == "":
		return fmt.Errorf("job type is empty")
	case len(n.Type) > maxName || len(n.Queue) > maxName:
		return fmt.Errorf("%.40s…: a job type or queue has at most %d bytes", n.Type, maxName)
	case !utf8.ValidString(n.Type) || !utf8.ValidString(n.Queue) || !utf8.ValidString(n.Unique.Key):
		return fmt.Errorf("%q: job type, queue and unique key must be UTF-8", n.Type)
	case len(n.Payload) > MaxPayload:
		return fmt.Errorf("%s: payload has %d bytes, at most %d (1 MiB) are allowed: put the data elsewhere and its address here", n.Type, len(n.Payload), MaxPayload)
	case !json.Valid(n.Payload):
		return fmt.Errorf("%s: payload is not JSON: %w", n.Type, invalidAt(n.Payload))
	case n.Delay < 0:
		return fmt.Errorf("%s: delay %v is negative", n.Type, n.Delay)
	case n.MaxAttempts < 0:
		return fmt.Errorf("%s: max attempts %d is negative", n.Type, n.MaxAttempts)
	case n.Timeout < 0:
		return fmt.Errorf("%s: timeout %v is negative", n.Type, n.Timeout)
	case len(n.Unique.Key) > MaxKey:
		return fmt.Errorf("%s: unique key has %d bytes, at most %d are allowed", n.Type, len(n.Unique.Key), MaxKey)
	}
	if err := n.checkMeta(); err != nil {
		return fmt.Errorf("%s: %w", n.Type, err)
	}
	switch n.Unique.For {
	case "", UniqueActive, UniquePending, UniqueForever:
	default:
		return fmt.Errorf("%s: unique for %q: use active, pending or forever", n.Type, n.Unique.For)
	}
	switch n.Unique.OnConflict {
	case "", Keep, Replace, Move:
	default:
		return fmt.Errorf("%s: on conflict %q: use keep, replace or move", n.Type, n.Unique.OnConflict)
	}
	return nil
}

func (n New) checkMeta() error {
	if len(n.Meta) == 0 {
		return nil
	}
	for key, value := range n.Meta {
		if key == "" || !utf8.ValidString(key) || !utf8.ValidString(value) {
			return fmt.Errorf("meta %.40q: a key has at least one byte, and all is UTF-8", key)
		}
	}
	if text, _ := json.Marshal(n.Meta); len(text) > MaxMeta { // strings: no error
		return fmt.Errorf("meta has %d bytes as JSON, at most %d are allowed", len(text), MaxMeta)
	}
	return nil
}

// invalidAt names the place at which text stops being JSON.
func invalidAt(text []byte) error {
	var v any
	return json.Unmarshal(text, &v)
}
