package main

import (
	"fmt"
	"io"

	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// loadResult is what came of it, as --json prints it.
type loadResult struct {
	Processes   int     `json:"processes"`
	Slots       int     `json:"slots"`
	Work        float64 `json:"work_seconds"`
	Producers   int     `json:"producers"`
	Payload     int     `json:"payload_bytes"`
	Rate        int     `json:"rate"` // asked for; 0: as fast as they can
	Interrupted bool    `json:"interrupted"`

	Enqueued       int64   `json:"enqueued"` // acknowledged
	Completed      int64   `json:"completed"`
	Again          int64   `json:"begun_again"` // attempted more than once
	Died           int     `json:"workers_died"`
	Seconds        float64 `json:"seconds"` // from the first enqueue to the last completion
	EnqueuedRate   float64 `json:"enqueued_per_second"`
	CompletedRate  float64 `json:"completed_per_second"`
	Commits        uint32  `json:"commits"` // of anybody, to the file
	JobsPerCommit  float64 `json:"jobs_per_commit"`
	WALPeak        int64   `json:"wal_peak_bytes"`
	DatabaseAtEnd  int64   `json:"database_bytes"`
	EnqueueTimes   loadRow `json:"enqueue_us"`
	StartedTimes   loadRow `json:"started_us"`
	CompletedTimes loadRow `json:"completed_us"`
	TurnTimes      loadRow `json:"turn_us"`

	Drift *loadDrift `json:"drift,omitempty"` // with --duration

	// Difference is what is not as it should be; empty: nothing was lost.
	Difference string `json:"difference"`
}

// loadRow are quantiles, in microseconds.
type loadRow struct {
	Count int64 `json:"count"`
	P50   int64 `json:"p50"`
	P90   int64 `json:"p90"`
	P99   int64 `json:"p99"`
	P999  int64 `json:"p999"`
	Max   int64 `json:"max"`
}

func (t times) row() loadRow {
	return loadRow{
		Count: t.TotalCount(), P50: t.ValueAtQuantile(50), P90: t.ValueAtQuantile(90),
		P99: t.ValueAtQuantile(99), P999: t.ValueAtQuantile(99.9), Max: t.Max(),
	}
}

// loadDrift is the first tenth of a run beside the last: what leaks or slows down
// differs.
type loadDrift struct {
	First loadTenth `json:"first_tenth"`
	Last  loadTenth `json:"last_tenth"`
}

type loadTenth struct {
	P99      int64 `json:"completed_p99_us"`
	RSS      int64 `json:"worker_rss_bytes"` // on average; where the system tells only its maximum, that
	Database int64 `json:"database_bytes"`   // at its end
}

func (w loadWindow) tenth() loadTenth {
	return loadTenth{P99: w.completed.ValueAtQuantile(99), RSS: w.rss / max(1, w.n), Database: w.size}
}

// result looks into the file and puts together what came of it.
func (l *loadRun) result() (r loadResult, err error) {
	commits, err := commits(l.file.path)
	if err != nil {
		return r, err
	}
	if err := l.look(); err != nil {
		return r, err
	}
	c, err := l.file.census()
	if err != nil {
		return r, err
	}
	r = loadResult{
		Processes: l.Processes, Slots: l.Slots, Work: l.Work.Seconds(),
		Producers: l.Producers, Payload: l.Payload, Rate: l.Rate, Interrupted: l.interrupted(),
		Enqueued: l.enqueued, Completed: c.Completed, Again: c.Again, Died: l.died,
		Seconds: seconds(l.begin, l.lastCompleted), Commits: commits - l.commitsBefore,
		WALPeak: l.walPeak, DatabaseAtEnd: l.size,
		EnqueueTimes: l.times[timeEnqueue].row(), StartedTimes: l.times[timeStarted].row(),
		CompletedTimes: l.times[timeCompleted].row(), TurnTimes: l.times[timeTurn].row(),
		Difference: l.difference(c),
	}
	if r.Seconds > 0 {
		r.CompletedRate = float64(r.Completed) / r.Seconds
		r.EnqueuedRate = float64(r.Enqueued) / seconds(l.begin, l.lastEnqueued)
	}
	if r.Commits > 0 {
		r.JobsPerCommit = float64(r.Completed) / float64(r.Commits)
	}
	if l.first.completed.TotalCount() > 0 && l.last.completed.TotalCount() > 0 {
		r.Drift = &loadDrift{l.first.tenth(), l.last.tenth()}
	}
	return r, nil
}

func seconds(begin, end int64) float64 { return float64(max(0, end-begin)) / 1e9 }

// difference is what is wrong with the file, beside what the processes were told;
// empty: nothing.
//
// Each job that a producer was told of is there and completed, once: as many were
// accepted as completed as there are, and each attempt of a job but the last is
// known to have ended otherwise. A token above 1 alone says nothing: it is that of
// a job whose worker died. What a worker was told in the second before it died,
// nobody has heard of.
func (l *loadRun) difference(c loadCensus) string {
	switch {
	case c.All != l.enqueued:
		return fmt.Sprintf("%d jobs were acknowledged, %d are in the file", l.enqueued, c.All)
	case c.Completed != c.All && !l.interrupted(), c.Completed+c.Pending != c.All:
		return fmt.Sprintf("of %d jobs %d are completed, %d pending, %d running, %d failed", c.All, c.Completed, c.Pending, c.Running, c.Failed)
	case l.completed > c.Completed, l.completed < c.Completed && l.died == 0:
		return fmt.Sprintf("%d jobs were accepted as completed, %d are completed", l.completed, c.Completed)
	case c.Unexplained > 0:
		return fmt.Sprintf("%d jobs were begun again while nothing says that the attempt before had ended", c.Unexplained)
	}
	return ""
}

// print prints the result for people, in 80 columns.
func (r loadResult) print(w io.Writer) {
	p := message.NewPrinter(language.English)
	say := func(format string, args ...any) { fmt.Fprint(w, p.Sprintf(format, args...)) }
	say("workers %d, slots %d, work %g ms, producers %d, payload %d B", r.Processes, r.Slots, 1000*r.Work, r.Producers, r.Payload)
	if r.Rate > 0 {
		say(", rate %d/s", r.Rate)
	}
	say("\n\n  %-10s %12d %12.0f/s\n", "enqueued", r.Enqueued, r.EnqueuedRate)
	say("  %-10s %12d %12.0f/s  in %.1f s\n", "completed", r.Completed, r.CompletedRate, r.Seconds)
	say("  %-10s %12d %12.1f jobs a commit\n", "commits", r.Commits, r.JobsPerCommit)

	say("\n  %-28s%9s%9s%9s%9s%9s\n", "milliseconds", "p50", "p90", "p99", "p99.9", "max")
	row := func(name string, t loadRow) {
		say("  %-28s%9s%9s%9s%9s%9s\n", name, ms(p, t.P50), ms(p, t.P90), ms(p, t.P99), ms(p, t.P999), ms(p, t.Max))
	}
	row("enqueue: call and commit", r.EnqueueTimes)
	row("… until its handler starts", r.StartedTimes)
	row("… until it is completed", r.CompletedTimes)
	row("turn: lock, claim, commit", r.TurnTimes)

	say("\n  -wal file: at most %.1f MB; database: %.1f MB at the end\n", mb(r.WALPeak), mb(r.DatabaseAtEnd))
	if d := r.Drift; d != nil {
		say("\n  %-28s%14s%14s\n", "drift", "first tenth", "last tenth")
		say("  %-28s%14s%14s\n", "completed, p99, ms", ms(p, d.First.P99), ms(p, d.Last.P99))
		say("  %-28s%14.1f%14.1f\n", "memory of a worker, MB", mb(d.First.RSS), mb(d.Last.RSS))
		say("  %-28s%14.1f%14.1f\n", "database, MB", mb(d.First.Database), mb(d.Last.Database))
	}
	say("\n%s\n", r.verdict(p))
}

// ms are microseconds as milliseconds, with as many digits as mean something.
func ms(p *message.Printer, us int64) string {
	if us < 1_000_000 {
		return p.Sprintf("%.2f", float64(us)/1000)
	}
	return p.Sprintf("%d", us/1000)
}

func mb(bytes int64) float64 { return float64(bytes) / 1e6 }

// verdict is the last line, or two.
func (r loadResult) verdict(p *message.Printer) string {
	if r.Difference != "" {
		return "NOT as it should be: " + r.Difference
	}
	verdict := p.Sprintf("lost nothing: %d enqueued, %d completed", r.Enqueued, r.Completed)
	if r.Interrupted {
		verdict += p.Sprintf(", %d pending (interrupted)", r.Enqueued-r.Completed)
	}
	if r.Again == 0 {
		return verdict + ", none begun twice"
	}
	return verdict + p.Sprintf("\ntried again, as the attempt before had ended otherwise: %d; workers that died: %d", r.Again, r.Died)
}
