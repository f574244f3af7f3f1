package main

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// times is a histogram of microseconds up to an hour, to three digits, which
// processes hand over as JSON.
type times struct{ *hdrhistogram.Histogram }

func newTimes() times { return times{hdrhistogram.New(1, time.Hour.Microseconds(), 3)} }

// add counts what took longer than an hour as an hour.
func (t times) add(d time.Duration) {
	_ = t.RecordValue(min(max(0, d.Microseconds()), t.HighestTrackableValue())) // it is in range
}

func (t times) MarshalText() ([]byte, error) { return t.EncodeV2() }

func (t *times) UnmarshalText(text []byte) (err error) {
	t.Histogram, err = hdrhistogram.Decode(text)
	return err
}
