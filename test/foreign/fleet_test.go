package foreign_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var (
	long = flag.Duration("long", 10*time.Second, "how long TestFleet kills")
	seed = flag.Uint64("seed", 0, "of TestFleet's kills; 0: a new one")
)

var drivers = []string{"mattn", "modernc"}

// shop is a queue in the file of an application that takes orders.
type shop struct {
	database
	home, histories string
	producers       int // so far
}

func newShop(t *testing.T) *shop {
	s := &shop{home: filepath.Join(t.TempDir(), "home"), histories: t.TempDir()}
	s.database = database{T: t, path: filepath.Join(s.home, "shoal.db")}
	if out, err := exec.Command(filepath.Join(bin, "worker"), "--home", s.home, "--until-empty").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s.sql(`CREATE TABLE orders (key TEXT PRIMARY KEY)`)
	return s
}

// worker looks for nothing by itself: what it does not hear of waits.
func (s *shop) worker() *process {
	return run(s.T, false, "worker", "--home", s.home, "--poll", "1h", "--concurrency", "4", "--max-attempts", "100", "--type", "Ship", "--exec", "Ship=:")
}

// producer starts one that knows nothing of those before it.
func (s *shop) producer(driver string, args ...string) *process {
	s.producers++
	name := fmt.Sprintf("%s-%d", driver, s.producers)
	p := run(s.T, true, driver, append([]string{"-db", s.path, "-name", name, "-history", filepath.Join(s.histories, name)}, args...)...)
	p.start = func() *process { return s.producer(driver, args...) }
	return p
}

// check lets the fleet come to an end with its work, and looks at everything.
func (s *shop) check() {
	s.Helper()
	ends := readHistories(s.T, s.histories)
	eventually(s.T, "the end of all jobs", func() bool {
		return s.sql(`SELECT count(*) FROM sync_jobs WHERE status IN ('pending', 'running')`)[0] == "0"
	})
	recovered, vanished, problems := compare(ends, s.sql(`SELECT key FROM orders`), s.sql(`SELECT json_extract(payload, '$.key') FROM sync_jobs`))
	for _, p := range problems[:min(len(problems), 20)] {
		s.Error(p)
	}
	s.is(`SELECT DISTINCT status FROM sync_jobs`, "completed")
	s.is(`SELECT count(*) FROM sync_jobs WHERE job_type <> 'Ship' OR attempts > max_attempts OR lease_token < attempts OR completed_at IS NULL`, "0")
	s.is(`PRAGMA integrity_check`, "ok")
	count := make(map[end]int)
	for _, e := range ends {
		count[e]++
	}
	s.Logf("%d orders: %d acknowledged, %d rolled back, %d that a kill left open (%d are there whole, %d not at all): %d problems; %s jobs ran more than once",
		len(ends), count[committed], count[rolledBack], count[unknown], recovered, vanished, len(problems), s.sql(`SELECT count(*) FROM sync_jobs WHERE attempts > 1`)[0])
}

// TestFleet: two producers with each library and three workers are killed at
// random and started anew. No acknowledged order is lost, order and job are one
// whatever happened, and every job is done once the killing is over.
func TestFleet(t *testing.T) {
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("-seed %d", *seed)
	dice := rand.New(rand.NewPCG(*seed, 0))
	s := newShop(t)
	var all []*process
	for range 3 {
		all = append(all, s.worker())
	}
	for _, driver := range slices.Concat(drivers, drivers) {
		p := s.producer(driver)
		all = append(all, p)
		t.Logf("%s brings SQLite %s, %s", driver, p.first, walReset(t, p.first))
	}
	shm, err := os.Open(s.path + "-shm")
	if err != nil {
		t.Fatal(err)
	}
	defer shm.Close()
	kills := make(map[string]int)
	for over := time.Now().Add(*long); time.Now().Before(over); {
		// Every other kill waits for a producer that is inside its transaction, and
		// for up to 3 ms more: it is mostly in the COMMIT then.
		at := time.After(time.Duration(20+dice.IntN(100)) * time.Millisecond)
		i, how := dice.IntN(len(all)), ""
		if dice.IntN(2) == 0 {
			<-at
		} else if holder := waitForWriter(t, shm, at); slices.ContainsFunc(all, holder) {
			i, how = slices.IndexFunc(all, holder), ", having been seen to write"
			<-time.After(time.Duration(dice.IntN(3000)) * time.Microsecond)
		}
		if all[i].ended() {
			t.Fatalf("%s ended by itself: %v: %s", all[i].name, all[i].ProcessState, all[i].stderr.String())
		}
		all[i].kill()
		kills[all[i].name+how]++
		all[i] = all[i].start()
	}
	t.Logf("kills: %v", kills)
	for _, p := range all[3:] {
		p.finish(t)
	}
	s.check()
}

// waitForWriter looks for a producer that holds SQLite's write lock, which is
// the byte 120 of -shm (https://sqlite.org/walformat.html, 2.3.1), until the
// time has come. The fleet's own locks name no process.
func waitForWriter(t *testing.T, shm *os.File, at <-chan time.Time) (is func(*process) bool) {
	tick := time.NewTicker(100 * time.Microsecond)
	defer tick.Stop()
	for {
		lock := unix.Flock_t{Type: unix.F_RDLCK, Start: 120, Len: 1}
		if err := unix.FcntlFlock(shm.Fd(), unix.F_GETLK, &lock); err != nil {
			t.Fatal(err)
		}
		if lock.Type == unix.F_WRLCK && lock.Pid > 0 {
			return func(p *process) bool { return p.Process.Pid == int(lock.Pid) }
		}
		select {
		case <-at:
			return func(*process) bool { return false }
		case <-tick.C:
		}
	}
}

// TestWakeUp: with --poll 1h only the watched file tells an idle fleet of a
// commit, whichever library made it. One that is missed hangs the test.
func TestWakeUp(t *testing.T) {
	s := newShop(t)
	s.worker()
	s.worker()
	eventually(t, "two seats", func() bool { return s.sql(`SELECT count(*) FROM sync_workers`)[0] == "2" })
	for _, driver := range drivers {
		p := s.producer(driver, "-n", "50", "-await")
		<-p.done
		p.finish(t)
		waits := s.sql(`SELECT 1000 * (started_at - created_at) FROM sync_jobs WHERE payload LIKE '%"` + driver + `%' ORDER BY 1`)
		t.Logf("%s: waits in ms: median %.4s, worst %.4s", driver, waits[len(waits)/2], waits[len(waits)-1])
	}
	s.check()
}

// TestClash: a program with mattn's driver and the engine does not even start.
func TestClash(t *testing.T) {
	out, err := exec.Command(filepath.Join(bin, "clash")).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "sqlite3") {
		t.Errorf("%v: %s", err, out)
	}
}

// walReset says whether a version of SQLite has the bug that corrupts a busy
// file in WAL mode: 3.7.0 to 3.51.2 have, but for two.
func walReset(t *testing.T, version string) string {
	t.Helper()
	var v [3]int
	if _, err := fmt.Sscanf(version, "%d.%d.%d", &v[0], &v[1], &v[2]); err != nil {
		t.Fatalf("version %q: %v", version, err)
	}
	if slices.Compare(v[:], []int{3, 51, 3}) >= 0 || v == [3]int{3, 44, 6} || v == [3]int{3, 50, 7} {
		return "sound"
	}
	return "with the WAL-reset bug"
}
