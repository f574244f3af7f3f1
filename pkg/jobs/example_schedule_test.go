package jobs_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// A program brings a schedule along: on weekdays at 8:00 in Berlin, whoever leads
// the fleet enqueues what is to do that day.
func ExampleSchedule() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	q, done := openQueue(ctx)
	defer done()

	// So that the example need not wait for the morning; a service leaves Now out.
	start := time.Now()
	monday := time.Date(2026, 3, 30, 5, 59, 59, 0, time.UTC)

	w := jobs.NewWorker(q, jobs.WorkerOptions{
		Now: func() time.Time { return monday.Add(time.Since(start)) },
		Schedules: []jobs.Schedule{{
			Name: "reminders", Spec: "0 8 * * mon-fri", Zone: "Europe/Berlin", Missed: jobs.MissedOnce,
			Jobs: func(context.Context) ([]jobs.New, error) {
				n, err := jobs.NewJob("Remind", Invoice{42})
				return []jobs.New{n}, err
			},
		}},
	})
	jobs.Handle(w, "Remind", func(_ context.Context, j *jobs.Job[Invoice]) error {
		fmt.Println("reminding of order", j.Payload.Order)
		stop()
		return nil
	})
	if err := w.Run(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// reminding of order 42
}

// A schedule that is kept in the queue needs no program of its own. To put it
// again, as each deployment may, changes nothing about its next tick.
func ExampleStoredSchedule() {
	ctx := context.Background()
	q, done := openQueue(ctx)
	defer done()

	for range 2 {
		replaced, err := q.PutSchedule(ctx, jobs.StoredSchedule{
			Name: "nightly", Spec: "30 2 * * *", Zone: "Europe/Berlin", Type: "Backup", Payload: `{"to":"s3"}`,
		})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("replaced:", replaced)
	}
	rows, err := q.Schedules(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range rows {
		fmt.Println(r.Name, r.Type, "is due at", r.NextAt.Time().In(time.UTC).Format("04:05"), "of an hour")
	}
	// Output:
	// replaced: false
	// replaced: true
	// nightly Backup is due at 30:00 of an hour
}

// In the night in which the clock is set forward there is no 2:30.
func ExampleParseSpec() {
	spec, err := jobs.ParseSpec("30 2 * * *", "Europe/Berlin")
	if err != nil {
		log.Fatal(err)
	}
	at := time.Date(2026, 3, 27, 12, 0, 0, 0, time.UTC)
	for range 3 {
		at = spec.Next(at, at)
		fmt.Println(at.Format("Mon 2 Jan 15:04 MST"))
	}
	// Output:
	// Sat 28 Mar 02:30 CET
	// Sun 29 Mar 03:30 CEST
	// Mon 30 Mar 02:30 CEST
}
