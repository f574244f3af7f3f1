package jobs

import (
	"encoding/json"
	"time"
)

// Status is where a job is in its life.
type Status string

// The statuses. A delay, a retry and a snooze are a pending job whose run_at is
// in the future.
const (
	Pending   Status = "pending"
	Running   Status = "running"
	Completed Status = "completed"
	Failed    Status = "failed"
	Cancelled Status = "cancelled"
)

// Statuses lists them in the order of a job's life.
var Statuses = []Status{Pending, Running, Completed, Failed, Cancelled}

// Bounds of what a job may carry, in bytes.
const (
	MaxPayload = 1 << 20
	MaxResult  = 64 << 10
	MaxError   = 16 << 10 // what is longer is cut in the middle
	MaxKey     = 512
	MaxMeta    = 16 << 10 // as JSON
)

// DefaultQueue is the queue of a job that names none.
const DefaultQueue = "default"

// New is a job to enqueue. Its zero value but Type and Payload is a job of the
// default queue, due now, at priority 0, with its type's attempts and timeout.
type New struct {
	Type        string
	Payload     json.RawMessage // valid JSON, at most MaxPayload bytes
	Queue       string
	Priority    int           // higher is claimed first
	RunAt       time.Time     // not before; zero: now
	Delay       time.Duration // added to RunAt, or to now
	MaxAttempts int           // 0: what holds for the type
	Timeout     time.Duration // of an attempt; 0: what holds for the type
	Unique      Unique
	Meta        map[string]string // what travels with the job; at most MaxMeta bytes as JSON
}

// Unique makes a job the only one of its type with its key. The zero value: not unique.
type Unique struct {
	Key        string     // at most MaxKey bytes; empty: not unique
	For        UniqueFor  // empty: UniqueActive
	OnConflict OnConflict // empty: Keep
}

// UniqueFor says how long a job keeps its key to itself. A job that returns to
// pending (retry, reap) does not take the key again once it gave it up.
type UniqueFor string

// The spans of uniqueness.
const (
	UniqueActive  UniqueFor = "active"  // until the job has ended
	UniquePending UniqueFor = "pending" // until it is claimed, also ahead of a slot that it then does not get
	UniqueForever UniqueFor = "forever" // as long as its row is there
)

// OnConflict says what an enqueue does to the job that has the key. Replace and
// Move act on a pending job only; any other is kept as it is.
type OnConflict string

// What may be done on a conflict.
const (
	Keep    OnConflict = "keep"    // leave it
	Replace OnConflict = "replace" // give it the new payload
	Move    OnConflict = "move"    // give it the new run_at
)

// Added is what became of a New: the id of the job, and whether it was there
// already (Unique).
type Added struct {
	ID       int64
	Existing bool
}

// Ref names one attempt of a job: the token is that of the claim.
type Ref struct {
	ID    int64
	Token int64
}

// Claimed is a job in a worker's hands.
type Claimed struct {
	Ref
	Type        string
	Queue       string
	Payload     []byte
	Priority    int
	Attempt     int // 1 for the first
	MaxAttempts int
	Timeout     time.Duration // 0: none
	Retry       RetryPolicy   // what the policies say, where they do
	Meta        map[string]string
	CreatedAt   time.Time
	RunAt       time.Time
}

// Outcome is the last word on an attempt.
type Outcome struct {
	Ref
	// Status is Completed, Failed (for good), or Pending: once more, after Delay, or as
	// before the claim (KeepDue).
	Status Status
	Delay  time.Duration
	// Uncounted takes the attempt back and leaves no error row: a snooze, or a job
	// that is given back because its worker drains or could not keep the lease.
	Uncounted bool
	Error     string // why, where it did not complete; at most MaxError bytes
	Result    []byte // JSON, at most MaxResult bytes; nil: none
}

// KeepDue, as an Outcome's Delay, gives a job back with the place in the order that it had.
const KeepDue time.Duration = -1

// Progress is how far an attempt has come, in units of the handler's choice.
type Progress struct {
	Done  int64  `json:"done"`
	Total int64  `json:"total"` // 0: unknown
	Note  string `json:"note,omitempty"`
}

// Holding is an attempt that a worker believes to hold, and its progress where
// that has changed since it was last written.
type Holding struct {
	Ref
	Progress *Progress
}
