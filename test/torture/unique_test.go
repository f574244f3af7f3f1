//go:build linux

package torture_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestUniqueRace: 64 processes enqueue one unique job at the same moment; one
// makes it, the others get its id.
func TestUniqueRace(t *testing.T) {
	const racers = 64
	o := options{queue: "torture", db: filepath.Join(runDir(t), "shoal.db")}
	f := newFleet(t, o, build(t))
	makeFile(t, o.db)
	for i := range racers {
		f.launch(role{Role: "racer", Name: fmt.Sprintf("racer-%02d", i)}, "")
	}
	eventually(t, "all at the start", 60*time.Second, func() bool {
		ready, _ := filepath.Glob(filepath.Join(f.dir, "*.ready"))
		return len(ready) == racers
	})
	if err := os.WriteFile(filepath.Join(f.dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range f.all {
		<-p.done
		if p.status.ExitStatus() != 0 {
			t.Errorf("%s: %s: %s", p.Name, p.end(), p.log())
		}
	}
	ids := make(map[int64]int)
	for _, h := range readHistories(t, f.dir) {
		for _, e := range h.events {
			if e.Op == "enqueue" && e.Done && len(e.IDs) == 1 {
				ids[e.IDs[0]]++
			}
		}
	}
	if n := number(t, o.db, `SELECT count(*) FROM sync_jobs`); n != 1 || len(ids) != 1 {
		t.Errorf("%d jobs; the racers were told %v", n, ids)
	}
	for id, n := range ids {
		if n != racers {
			t.Errorf("job %d was told to %d of %d", id, n, racers)
		}
	}
}
