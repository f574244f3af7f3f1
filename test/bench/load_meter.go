package main

import (
	"context"
	"encoding/json"
	"io"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// What is timed.
const (
	timeEnqueue   = "enqueue"   // a call of Enqueue
	timeStarted   = "started"   // from before Enqueue was called until the handler started
	timeCompleted = "completed" // … until the worker was told that the job is completed
	timeTurn      = "turn"      // one that had something to say: the wait for the write lock, and the commit
)

// loadTimes is a histogram of microseconds up to an hour, to three digits.
type loadTimes struct{ *hdrhistogram.Histogram }

func newLoadTimes() loadTimes {
	return loadTimes{hdrhistogram.New(1, time.Hour.Microseconds(), 3)}
}

func (t loadTimes) MarshalText() ([]byte, error) { return t.EncodeV2() }

func (t *loadTimes) UnmarshalText(text []byte) (err error) {
	t.Histogram, err = hdrhistogram.Decode(text)
	return err
}

// loadReport is what a process has done since it last said so.
type loadReport struct {
	Ready bool                 // the first word: it is ready
	Jobs  int64                // acknowledged as enqueued, or as completed
	Last  int64                // when the last of them was, by monotonic
	RSS   int64                // bytes in memory now
	Times map[string]loadTimes // of timeEnqueue and so on
}

// loadMeter measures in a process, and tells its parent from time to time: of a
// process that is killed not all is lost.
type loadMeter struct {
	out *json.Encoder

	mu  sync.Mutex
	now loadReport
}

func newLoadMeter(out io.Writer) *loadMeter { return &loadMeter{out: json.NewEncoder(out)} }

// time counts a time that began at since, both by monotonic.
func (m *loadMeter) time(what string, since, now int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.now.Times == nil {
		m.now.Times = make(map[string]loadTimes)
	}
	if _, ok := m.now.Times[what]; !ok {
		m.now.Times[what] = newLoadTimes()
	}
	t := m.now.Times[what]
	_ = t.RecordValue(min(max(0, now-since)/1000, t.HighestTrackableValue())) // it is in range
}

// count counts a job at its end.
func (m *loadMeter) count(now int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.Jobs++
	m.now.Last = now
}

func (m *loadMeter) ready() error { return m.out.Encode(loadReport{Ready: true}) }

// report says what has come since the last report.
func (m *loadMeter) report() error {
	m.mu.Lock()
	r := m.now
	m.now = loadReport{}
	m.mu.Unlock()
	r.RSS = loadRSS()
	return m.out.Encode(r)
}

// during reports while work works, and once more after it.
func (m *loadMeter) during(every time.Duration, work func() error) error {
	ctx, stop := context.WithCancel(context.Background())
	var reports sync.WaitGroup
	reports.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if m.report() != nil {
					return // nobody listens: the parent is gone
				}
			case <-ctx.Done():
				return
			}
		}
	})
	err := work()
	stop()
	reports.Wait()
	if e := m.report(); err == nil {
		err = e
	}
	return err
}
