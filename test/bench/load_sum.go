package main

import (
	"time"
)

// loadSum is what all processes have said so far, and what was seen of the file.
type loadSum struct {
	begin         int64  // by monotonic: the producers were told to begin; 0: not yet
	commitsBefore uint32 // of anybody, to the file
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
	lineAt   int64 // by monotonic
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
func (l *loadRun) mark() (err error) {
	l.times = make(map[string]times)
	for _, what := range []string{timeEnqueue, timeStarted, timeCompleted, timeTurn} {
		l.times[what] = newTimes()
	}
	l.first.completed, l.last.completed, l.lineTime = newTimes(), newTimes(), newTimes()
	l.begin = monotonic()
	l.lineAt = l.begin
	if l.commitsBefore, err = commits(l.file.path); err != nil {
		return err
	}
	return l.look()
}

// add adds a report.
func (l *loadRun) add(kind string, r loadReport) {
	for what, t := range r.Times {
		l.times[what].Merge(t.Histogram)
	}
	if kind == "producer" {
		l.enqueued += r.Jobs
		l.lastEnqueued = max(l.lastEnqueued, r.Last)
		return
	}
	l.completed += r.Jobs
	l.lastCompleted = max(l.lastCompleted, r.Last)
	if t, ok := r.Times[timeCompleted]; ok {
		l.lineTime.Merge(t.Histogram)
	}
	if w := l.window(); w != nil && !r.Ready {
		w.add(r)
		w.size = l.size
	}
}

// window is the one that is open now, if one is. It stays open until a job was
// completed in it.
func (l *loadRun) window() *loadWindow {
	since := time.Duration(monotonic() - l.begin)
	switch {
	case l.begin == 0 || l.Duration == 0:
		return nil
	case since <= l.Duration/10 || l.first.completed.TotalCount() == 0:
		return &l.first
	case since >= l.Duration/10*9 && (since <= l.Duration || l.last.completed.TotalCount() == 0):
		return &l.last
	}
	return nil
}

// look looks at the file's size.
func (l *loadRun) look() error {
	size, wal, err := l.file.sizes()
	if err != nil {
		return err
	}
	l.size, l.walPeak = size, max(l.walPeak, wal)
	return nil
}
