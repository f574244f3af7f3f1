package main

import (
	"time"

	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// loadSum is what all processes have said so far, and what was seen of the file.
type loadSum struct {
	began         time.Time
	begin         int64  // by monotonic: the producers were told to begin
	commits       uint32 // then
	enqueued      int64  // acknowledged to producers
	completed     int64  // acknowledged to workers
	lastEnqueued  int64  // by monotonic
	lastCompleted int64
	times         map[string]times
	walPeak       int64
	size          int64 // of the database, when it was last looked at

	// The first and the last tenth of Duration.
	first, last loadWindow

	// Of the line of progress.
	lineAt   time.Time
	lineDone int64
	lineTime times
}

// loadWindow is a part of a run.
type loadWindow struct {
	completed times
	rss, n    int64 // sum of n reports of workers
	size      int64 // of the database, at its end
}

func (w *loadWindow) add(r loadReport) {
	w.rss, w.n = w.rss+r.RSS, w.n+1
	if t, ok := r.Times[timeCompleted]; ok {
		w.completed.Merge(t.Histogram)
	}
}

// mark notes where it begins.
func (s *loadSum) mark(f *loadFile) (err error) {
	s.times = make(map[string]times)
	for _, what := range []string{timeEnqueue, timeStarted, timeCompleted, timeTurn} {
		s.times[what] = newTimes()
	}
	s.first.completed, s.last.completed, s.lineTime = newTimes(), newTimes(), newTimes()
	s.began = time.Now()
	s.lineAt = s.began
	s.begin = monotonic()
	s.commits, err = commits(f.path)
	return err
}

// add adds a report.
func (s *loadSum) add(kind string, r loadReport, duration time.Duration) {
	for what, t := range r.Times {
		s.times[what].Merge(t.Histogram)
	}
	if kind == "producer" {
		s.enqueued += r.Jobs
		s.lastEnqueued = max(s.lastEnqueued, r.Last)
		return
	}
	s.completed += r.Jobs
	s.lastCompleted = max(s.lastCompleted, r.Last)
	if t, ok := r.Times[timeCompleted]; ok {
		s.lineTime.Merge(t.Histogram)
	}
	if w := s.window(duration); w != nil && !r.Ready {
		w.add(r)
		w.size = s.size
	}
}

// window is the one that is open now, if one is. It stays open until a job was
// completed in it.
func (s *loadSum) window(duration time.Duration) *loadWindow {
	since := time.Since(s.began)
	switch {
	case s.began.IsZero() || duration == 0:
		return nil
	case since <= duration/10 || s.first.completed.TotalCount() == 0:
		return &s.first
	case since >= duration/10*9 && (since <= duration || s.last.completed.TotalCount() == 0):
		return &s.last
	}
	return nil
}

// look looks at the file's size.
func (s *loadSum) look(f *loadFile) (err error) {
	var wal int64
	if s.size, wal, err = f.sizes(); err != nil {
		return err
	}
	s.walPeak = max(s.walPeak, wal)
	return nil
}

// line is the line of progress; empty: not yet.
func (s *loadSum) line(now time.Time) string {
	took := now.Sub(s.lineAt)
	if s.began.IsZero() || took < time.Second {
		return ""
	}
	rate := float64(s.completed-s.lineDone) / took.Seconds()
	p99 := float64(s.lineTime.ValueAtQuantile(99)) / 1000
	line := message.NewPrinter(language.English).Sprintf("%d completed, %.0f/s, %d pending, p99 %.1f ms",
		s.completed, rate, max(0, s.enqueued-s.completed), p99)
	s.lineAt, s.lineDone = now, s.completed
	s.lineTime.Reset()
	return line
}
