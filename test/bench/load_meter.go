package main

import (
	"encoding/json"
	"errors"
	"io"
	"sync"
	"time"
)

// What is timed.
const (
	timeEnqueue   = "enqueue"   // a call of Enqueue
	timeStarted   = "started"   // from before Enqueue was called until the handler started
	timeCompleted = "completed" // … until the worker was told that the job is completed
	timeTurn      = "turn"      // one that had something to say: the wait for the write lock, and the commit
)

// loadReport is what a process has done since it last said so.
type loadReport struct {
	Ready bool             // the first word: it is ready
	Jobs  int64            // acknowledged as enqueued, or as completed
	Last  int64            // when the last of them was, by monotonic
	RSS   int64            // bytes in memory now
	Times map[string]times // of timeEnqueue and so on
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
		m.now.Times = make(map[string]times)
	}
	if _, ok := m.now.Times[what]; !ok {
		m.now.Times[what] = newTimes()
	}
	m.now.Times[what].add(time.Duration(now - since))
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
	ended := make(chan error, 1)
	go func() { ended <- work() }()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_ = m.report() // where nobody listens the parent is gone, with which the input ends
		case err := <-ended:
			return errors.Join(err, m.report())
		}
	}
}
