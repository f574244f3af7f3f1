package e2e_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// attempts are all that began, with their times, of jobs that all have
// completed.
const attempts = `WITH runs AS (
	SELECT e.job_id AS id, job_type, queue, e.started_at AS began, e.ended_at AS ended FROM sync_job_errors e JOIN sync_jobs j ON j.id = e.job_id
	UNION ALL SELECT id, job_type, queue, started_at, completed_at FROM sync_jobs WHERE status = 'completed') `

// TestLimits: eight processes, one of them killed and started again, keep to what
// the operator says of a type and of a queue, by the stored times of all
// attempts: so many at once, so many starts in any span, and none during a pause.
func TestLimits(t *testing.T) {
	h := newHome(t)
	var lines strings.Builder
	for i := range 60 {
		fmt.Fprintf(&lines, `{"job_type":"Busy","payload":%d}`+"\n", i)
		fmt.Fprintf(&lines, `{"job_type":"Mail","payload":%d}`+"\n", i)
		fmt.Fprintf(&lines, `{"job_type":"Busy","payload":%d,"queue":"slow","priority":5}`+"\n", i)
	}
	_, stderr, exit := h.runWith([]byte(lines.String()), "enqueuer", "enqueue", "--file", "-")
	if exit != 0 {
		t.Fatal(stderr)
	}
	h.enqueuer("type", "set", "Busy", "--max-running", "7", "--retry-delay", "50ms")
	h.enqueuer("queue", "set", "slow", "--max-running", "3")
	h.enqueuer("type", "set", "Mail", "--max-starts", "15/1s")
	h.enqueuer("queue", "pause", "slow")

	// A third of the busy ones fail at first.
	first := filepath.Join(t.TempDir(), "first")
	busy := fmt.Sprintf(`sleep 0.03; [ $((SHOAL_JOB_ID %% 9)) != 0 ] || mkdir %s.$SHOAL_JOB_ID 2>/dev/null && [ $((SHOAL_JOB_ID %% 9)) = 0 ] && exit 1; exit 0`, first)
	fleet := []string{"--concurrency", "6", "--queue", "default", "--queue", "slow=4", "--exec", "Busy=" + busy, "--exec", "Mail=true", "--lease", "5s"}
	var workers []*worker
	for range 8 {
		workers = append(workers, h.worker(fleet...))
	}
	eventually(t, "work", func() bool { return h.sql(`SELECT count(*) > 10 FROM sync_jobs WHERE status = 'completed'`) == "1" })
	if got := h.sql(`SELECT count(*) FROM sync_jobs WHERE queue = 'slow' AND lease_token > 0`); got != "0" {
		t.Errorf("%s jobs of a queue began that is paused from the start", got)
	}
	h.enqueuer("queue", "resume", "slow")
	eventually(t, "the slow queue's work", func() bool {
		return h.sql(`SELECT count(*) > 5 FROM sync_jobs WHERE queue = 'slow' AND status = 'completed'`) == "1"
	})
	workers[0].signal(syscall.SIGKILL)
	workers[0].exit()
	h.worker(fleet...)
	h.enqueuer("type", "pause", "Busy")
	paused := time.Now()
	eventually(t, "the end of what ran", func() bool {
		return h.sql(`SELECT count(*) FROM sync_jobs WHERE status = 'running' AND job_type = 'Busy'`) == "0"
	})
	resumed := time.Now()
	h.enqueuer("type", "resume", "Busy")
	h.expectAllCompleted()

	for what, query := range map[string]string{
		"more than 7 Busy at once": `SELECT count(*) FROM runs r WHERE job_type = 'Busy' AND 7 <
			(SELECT count(*) FROM runs o WHERE o.job_type = 'Busy' AND o.began <= r.began AND o.ended > r.began)`,
		"more than 3 of slow at once": `SELECT count(*) FROM runs r WHERE queue = 'slow' AND 3 <
			(SELECT count(*) FROM runs o WHERE o.queue = 'slow' AND o.began <= r.began AND o.ended > r.began)`,
		"more than 15 Mail in a second": `SELECT count(*) FROM runs r WHERE job_type = 'Mail' AND 15 <
			(SELECT count(*) FROM runs o WHERE o.job_type = 'Mail' AND o.began <= r.began AND o.began > r.began - 1)`,
		"a start in the pause": fmt.Sprintf(`SELECT count(*) FROM runs WHERE job_type = 'Busy' AND began > %f AND began < %f`,
			float64(paused.UnixMicro())/1e6, float64(resumed.UnixMicro())/1e6),
	} {
		if got := h.sql(attempts + query); got != "0" {
			t.Errorf("%s: seen at %s starts", what, got)
		}
	}
	// The limits were reached, or nothing was shown.
	const reached = attempts + `SELECT
		(SELECT max((SELECT count(*) FROM runs o WHERE o.job_type = 'Busy' AND o.began <= r.began AND o.ended > r.began)) FROM runs r WHERE job_type = 'Busy'),
		(SELECT max((SELECT count(*) FROM runs o WHERE o.queue = 'slow' AND o.began <= r.began AND o.ended > r.began)) FROM runs r WHERE queue = 'slow'),
		(SELECT max((SELECT count(*) FROM runs o WHERE o.job_type = 'Mail' AND o.began <= r.began AND o.began > r.began - 1)) FROM runs r WHERE job_type = 'Mail'),
		(SELECT count(*) > 5 FROM sync_job_errors)`
	if got := h.sql(reached); got != "7|3|15|1" {
		t.Errorf("most at once of Busy and of slow, most Mail in a second, failures: %s", got)
	}
}
