// Package insert holds the one statement that adds a job to an SQLite file, for
// the engine and for sqlitetx, which can't import each other's drivers. It runs
// nothing, and imports no driver.
package insert

import (
	"cmp"
	"encoding/json"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// SchemaVersion is the newest schema that the statements are known to be right
// for: the one that the engine migrates to.
const SchemaVersion = 5

const one = `INSERT INTO sync_jobs
	(job_type, payload, created_at, priority, queue, run_at, due, max_attempts, timeout, meta)
	VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, nullif(?8, 0), nullif(?9, 0), nullif(?10, ''))`

// A no-op update rather than DO NOTHING, which would return no id.
const unique = `INSERT INTO sync_jobs
	(job_type, payload, created_at, priority, queue, run_at, due, max_attempts, timeout, meta, unique_key, unique_for)
	VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, nullif(?8, 0), nullif(?9, 0), nullif(?10, ''), ?11, ?12)
	ON CONFLICT (job_type, unique_key) WHERE unique_key IS NOT NULL DO UPDATE SET
		payload = iif(status = 'pending' AND ?13 = 'replace', excluded.payload, payload),
		meta    = iif(status = 'pending' AND ?13 = 'replace', excluded.meta, meta),
		run_at  = iif(status = 'pending' AND ?13 = 'move', excluded.run_at, run_at),
		due     = iif(status = 'pending' AND ?13 = 'move', excluded.due, due)
	RETURNING id`

// Statement returns what adds a job that was checked, at the time now in Unix
// seconds. A unique job's returns its id, or that of the job that has the key; any
// other's id is that of the last row inserted.
func Statement(n jobs.New, now float64) (sql string, args []any) {
	runAt := now
	if !n.RunAt.IsZero() {
		runAt = float64(jobs.SecondsOf(n.RunAt))
	}
	runAt += n.Delay.Seconds()
	meta := ""
	if len(n.Meta) > 0 {
		text, _ := json.Marshal(n.Meta) // strings: no error
		meta = string(text)
	}
	args = []any{n.Type, string(n.Payload), now, n.Priority, cmp.Or(n.Queue, jobs.DefaultQueue), runAt, runAt <= now,
		n.MaxAttempts, n.Timeout.Seconds(), meta}
	if n.Unique.Key == "" {
		return one, args
	}
	return unique, append(args, n.Unique.Key, string(cmp.Or(n.Unique.For, jobs.UniqueActive)), string(n.Unique.OnConflict))
}
