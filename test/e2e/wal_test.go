package e2e_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// TestPinnedWAL: a fleet works on while another program keeps a read
// transaction open; its workers name that program, stats shows the figure, and
// the idle fleet has the file back under 64 MiB within 10 s of its end.
func TestPinnedWAL(t *testing.T) {
	const walCap, lines = 64 << 20, 27
	h, began := newHome(t), time.Now()
	var workers []*worker
	for range 3 {
		workers = append(workers, h.worker("--type", "Noop", "--exec", "Noop=cat >/dev/null"))
	}
	reader, in := h.begin(`BEGIN; SELECT count(*) FROM sync_jobs;`)
	file := filepath.Join(t.TempDir(), "jobs.ndjson")
	line := fmt.Sprintf(`{"job_type": "Noop", "payload": "%s"}`+"\n", strings.Repeat("x", 900<<10))
	if err := os.WriteFile(file, bytes.Repeat([]byte(line), lines), 0o600); err != nil {
		t.Fatal(err)
	}
	h.enqueuer("enqueue", "--file", file)
	h.expectAllCompleted()
	size := func() int64 {
		info, err := os.Stat(h.db + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	before := size()
	figure := object[jobs.Stats](t, h.enqueuer("stats", "--json")).WALBytes
	grown := size() // by the leader's renewal, if that came in between
	if figure < before || figure > grown || before <= walCap {
		t.Errorf("the figure is %d, the file had %d bytes before and %d after, want more than %d", figure, before, grown, walCap)
	}
	if said := h.enqueuer("stats"); !strings.Contains(said, "in the -wal file") {
		t.Errorf("stats says no figure: %s", said)
	}
	for _, w := range workers {
		eventually(t, "the warning", func() bool {
			return strings.Contains(w.logged(), "-wal file grows") && strings.Contains(w.logged(), fmt.Sprintf(`"pid":%d`, reader.Process.Pid))
		})
	}
	fmt.Fprintln(in, `COMMIT;`)
	start := time.Now()
	eventually(t, "the small file", func() bool { return size() <= walCap })
	took := time.Since(start)
	t.Logf("%d bytes while the reader stayed, %d %v after it", grown, size(), took.Round(time.Millisecond))
	if took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	for _, w := range workers {
		if n := strings.Count(w.logged(), "-wal file grows"); n > 1+int(time.Since(began)/(30*time.Second)) {
			t.Errorf("worker %s warned %d times", w.id, n)
		}
	}
	// The fleet still hears of an INSERT by another program.
	id := h.sql(`INSERT INTO sync_jobs (job_type, payload) VALUES ('Noop', '{}') RETURNING id`)
	h.expectStatus(id, "completed")
}
