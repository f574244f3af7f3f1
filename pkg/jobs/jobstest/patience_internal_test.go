package jobstest

import "time"

// Patience sets how long work may take.
func (q *Queue) Patience(d time.Duration) { q.patience = d }
