package jobs

import (
	"math/rand/v2"
	"time"
)

// retryCap bounds the delay between two attempts.
const retryCap = time.Hour

// backoff says how long a job waits after its nth failed attempt: base, then
// doubled each time up to retryCap, each up to a tenth shorter or longer so
// that jobs which failed together don't come back together.
type backoff struct {
	base time.Duration
}

func (b backoff) delay(attempt int) time.Duration {
	d := b.base
	for i := 1; i < attempt && d < retryCap; i++ {
		d *= 2
	}
	d = min(d, max(retryCap, b.base))
	return time.Duration(float64(d) * (0.9 + 0.2*rand.Float64()))
}
