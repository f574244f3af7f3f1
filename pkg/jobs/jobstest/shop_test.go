package jobstest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/jobs/jobstest"
)

// A small application, and below it how it is tested.

// Invoice is the payload of SendInvoice and Remind.
type Invoice struct {
	Order int64 `json:"order"`
}

// Shop sends an invoice for each order, and a reminder of it two weeks later.
type Shop struct {
	queue jobs.Store
	mail  func(text string) error
}

// Order takes an order.
func (s *Shop) Order(ctx context.Context, order int64) (job int64, err error) {
	return jobs.Enqueue(ctx, s.queue, "SendInvoice", Invoice{order}, jobs.Priority(5))
}

// Worker does the shop's work in the background.
func (s *Shop) Worker() *jobs.Worker {
	w := jobs.NewWorker(s.queue, jobs.WorkerOptions{Concurrency: 4, MaxAttempts: 2, RetryDelay: time.Minute})
	jobs.Handle(w, "SendInvoice", s.sendInvoice)
	jobs.Handle(w, "Remind", func(_ context.Context, j *jobs.Job[Invoice]) error {
		return s.mail(fmt.Sprintf("remember order %d", j.Payload.Order))
	})
	return w
}

func (s *Shop) sendInvoice(ctx context.Context, j *jobs.Job[Invoice]) error {
	if j.Payload.Order <= 0 {
		return jobs.Permanent(fmt.Errorf("no order %d", j.Payload.Order))
	}
	if err := s.mail(fmt.Sprintf("pay order %d", j.Payload.Order)); err != nil {
		return err
	}
	if err := j.SetResult("sent"); err != nil {
		return err
	}
	remind, err := jobs.NewJob("Remind", j.Payload, jobs.Delay(14*24*time.Hour))
	if err != nil {
		return err
	}
	return j.Commit(ctx, nil, remind)
}

// newShop is a shop on a queue of the test's own, whose mails go to sent.
func newShop(t *testing.T, sent *[]string) (*Shop, *jobstest.Queue) {
	t.Parallel()
	q := jobstest.New(t)
	return &Shop{queue: q, mail: func(text string) error {
		*sent = append(*sent, text)
		return nil
	}}, q
}

// What was enqueued can be looked at; nothing runs by itself.
func TestShopEnqueues(t *testing.T) {
	var sent []string
	shop, q := newShop(t, &sent)
	for _, order := range []int64{42, 43} {
		if _, err := shop.Order(t.Context(), order); err != nil {
			t.Fatal(err)
		}
	}
	equal(t, jobstest.Payloads[Invoice](q, "SendInvoice"), []Invoice{{42}, {43}})
	equal(t, q.Enqueued("SendInvoice")[1].Priority, 5)
	equal(t, sent, nil)
}

// The application's own worker runs what is due, and what was delayed when the
// clock has been moved on.
func TestShopReminds(t *testing.T) {
	var sent []string
	shop, q := newShop(t, &sent)
	w := shop.Worker()
	if _, err := shop.Order(t.Context(), 42); err != nil {
		t.Fatal(err)
	}
	for _, job := range q.Drain(w) {
		equal(t, job.Status, jobs.Completed)
	}
	equal(t, sent, []string{"pay order 42"})

	q.Advance(13 * 24 * time.Hour)
	equal(t, len(q.Drain(w)), 0)
	q.Advance(24 * time.Hour)
	equal(t, len(q.Drain(w)), 1)
	equal(t, sent, []string{"pay order 42", "remember order 42"})
}

// One attempt of one job, and what came of it.
func TestShopSendsInvoice(t *testing.T) {
	var sent []string
	shop, q := newShop(t, &sent)
	w := shop.Worker()

	job := q.Run(w, "SendInvoice", Invoice{42})
	equal(t, job.Status, jobs.Completed)
	equal(t, string(job.Result), `"sent"`)
	equal(t, job.Enqueued[0].Type, "Remind")
	equal(t, job.Enqueued[0].Payload, `{"order":42}`)

	job = q.Run(w, "SendInvoice", Invoice{-1})
	equal(t, job.Status, jobs.Failed)
	equal(t, job.Error, "no order -1")
}

// A failed attempt is followed by another one when its time has come.
func TestShopRetries(t *testing.T) {
	var sent []string
	shop, q := newShop(t, &sent)
	shop.mail = func(string) error { return errors.New("the mail server is busy") }
	w := shop.Worker()

	job := q.Run(w, "SendInvoice", Invoice{42})
	equal(t, job.Status, jobs.Pending)
	equal(t, job.Error, "the mail server is busy")

	q.Advance(2 * time.Minute)
	job = q.Work(w, job.ID)
	equal(t, job.Status, jobs.Failed)
	equal(t, job.Attempts, 2)
}
