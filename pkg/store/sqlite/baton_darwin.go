package sqlite

import (
	"math/rand/v2"
	"time"
)

// baton passes nothing on here: who waits for the write lock looks again soon.
type baton struct{}

func newBaton(*seatFile) (baton, error) { return baton{}, nil }

func (baton) close() error { return nil }

func (baton) wait(time.Duration) { time.Sleep(time.Duration(rand.Int64N(int64(time.Millisecond)))) }

func (baton) pass() {}
