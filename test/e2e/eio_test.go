//go:build linux

package e2e_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

// TestSyncFails: the disk fails, so that commits end with an I/O error at their
// sync: what was under way is unknown, and goes on once the disk does. It fails
// again, all processes are killed, and others come. In the end only what the disk
// has is looked at: everything acknowledged is there, what was refused is not, and
// what is unknown is there once at most.
func TestSyncFails(t *testing.T) {
	if db := os.Getenv(fleetDB); db != "" {
		feeder(t, db)
		return
	}
	h, disk := onFailingDisk(t)
	h.enqueuer("enqueue", "First")
	notes := t.TempDir()
	type process struct {
		cmd  *exec.Cmd
		note string
	}
	var fleet []process
	generation := 0
	start := func() {
		generation++
		fleet = nil
		for i := range 3 {
			p := process{exec.Command(os.Args[0], "-test.run", "^TestSyncFails$"), filepath.Join(notes, fmt.Sprintf("%d-%d", generation, i))}
			p.cmd.Env = append(os.Environ(), fleetDB+"="+h.db, "SHOAL_E2E_NOTES="+p.note)
			if err := p.cmd.Start(); err != nil {
				t.Fatal(err)
			}
			fleet = append(fleet, p)
		}
	}
	kill := func() {
		for _, p := range fleet {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
		fleet = nil
	}
	t.Cleanup(func() {
		kill()
		if t.Failed() {
			out, _ := exec.Command("tail", "-n", "3", "-v", "--", notes+"/1-0", notes+"/1-1", notes+"/1-2").CombinedOutput()
			t.Logf("notes:\n%s", out)
		}
	})
	count := func(file, word string) (n int) {
		for _, note := range readNotes(t, file) {
			if note.what == word {
				n++
			}
		}
		return n
	}
	// more waits, after do, until each process has noted so many more of a kind.
	more := func(word string, n int, do func()) {
		t.Helper()
		before := make(map[string]int)
		for _, p := range fleet {
			before[p.note] = count(p.note, word)
		}
		do()
		for _, p := range fleet {
			eventually(t, fmt.Sprintf("%d more that are %s", n, word), func() bool { return count(p.note, word) >= before[p.note]+n })
		}
	}

	start()
	more("acknowledged", 10, func() {})
	// Beside them a program that does not sync its commits: this one is in the cache
	// only when the sync of another's fails.
	var foreign string
	more("unknown", 1, func() {
		disk.fail()
		foreign = h.sql(`PRAGMA synchronous = OFF; INSERT INTO sync_jobs (job_type, payload) VALUES ('Foreign', '{}') RETURNING id`)
	})
	more("acknowledged", 10, disk.recover)

	more("unknown", 1, disk.fail)
	kill()
	failAndDie(h) // nobody else is left
	disk.recover()
	start()
	more("acknowledged", 3, func() {})
	kill()
	disk.remount()

	if got := h.sql(`SELECT group_concat(id) FROM sync_jobs WHERE job_type = 'Foreign'`); got != foreign {
		t.Errorf("the program's job: %q, want %s, as there were commits after it", got, foreign)
	}
	seen := make(map[string]string) // ids by payload
	for line := range strings.Lines(h.sql(`SELECT id, payload FROM sync_jobs WHERE job_type = 'Busy'`) + "\n") {
		id, payload, _ := strings.Cut(strings.TrimSpace(line), "|")
		payload = strings.TrimRight(strings.Trim(payload, `"`), ".")
		if other, twice := seen[payload]; twice {
			t.Errorf("%s is there twice, as job %s and job %s", payload, other, id)
		}
		seen[payload] = id
	}
	files, err := filepath.Glob(filepath.Join(notes, "*"))
	if err != nil {
		t.Fatal(err)
	}
	total, unknownThere := make(map[string]int), 0
	for _, file := range files {
		for _, note := range readNotes(t, file) {
			total[note.what]++
			switch id, there := seen[note.payload]; note.what {
			case "acknowledged":
				if id != note.id {
					t.Errorf("%s was acknowledged as job %s; there is %q", note.payload, note.id, id)
				}
			case "refused":
				if there {
					t.Errorf("%s was refused, and is there", note.payload)
				}
			case "unknown":
				if there {
					unknownThere++
				}
			}
		}
	}
	t.Logf("%d acknowledged, %d refused, %d unknown (%d of them there); jobs in the file: %d", total["acknowledged"], total["refused"], total["unknown"], unknownThere, len(seen))
}

// TestSyncFailsOfKilled: a program is killed right after its sync has failed, beside a
// worker that lives. The kernel tells a newcomer nothing of that: what it enqueues is on
// the disk nevertheless, and so is what the worker makes of it, which is told.
func TestSyncFailsOfKilled(t *testing.T) {
	for _, jobType := range []string{"Wait", "Run"} {
		t.Run(jobType, func(t *testing.T) {
			h, disk := onFailingDisk(t)
			w := h.worker("--type", "Run", "--exec", "Run=true")
			h.enqueuer("job", "wait", h.enqueuer("enqueue", "Run")) // then it writes nothing for a while
			disk.fail()
			failAndDie(h)
			disk.recover()
			id, status := h.enqueuer("enqueue", jobType), "pending"
			if jobType == "Run" {
				h.enqueuer("job", "wait", id)
				status = "completed"
			}
			w.signal(syscall.SIGKILL)
			w.exit()
			disk.remount()
			if got := h.sql(`SELECT status FROM sync_jobs WHERE id = ` + id); got != status {
				t.Errorf("job %s is %q, want %s", id, got, status)
			}
		})
	}
}

// failAndDie has a program enqueue jobs on a failing disk, and be killed right after its
// sync has failed.
func failAndDie(h *home) {
	h.Helper()
	sql := `PRAGMA busy_timeout = 5000; PRAGMA synchronous = FULL; INSERT INTO sync_jobs (job_type, payload) SELECT 'Last', json_quote(printf('%0999d', value)) FROM json_each('[1,2,3,4,5,6,7,8,9]');`
	out, err := exec.Command("sh", "-c", `printf '%s\n' "$2" '.shell kill -9 $PPID' | sqlite3 "$1"`, "sh", h.db, sql).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "I/O error") {
		h.Fatalf("its sync did not fail: %v: %s", err, out)
	}
}

// feeder enqueues one job after the other and notes what it was told of each, in
// a file outside of the file system under test.
func feeder(t *testing.T, db string) {
	file, err := os.Create(os.Getenv("SHOAL_E2E_NOTES"))
	if err != nil {
		t.Fatal(err)
	}
	q, err := store.Open(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; ; i++ {
		payload := fmt.Sprintf("%s-%d", filepath.Base(file.Name()), i)
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		id, err := jobs.Enqueue(ctx, q, "Busy", payload+strings.Repeat(".", 300))
		cancel()
		what := "acknowledged"
		switch {
		case errors.Is(err, jobs.ErrUnknown):
			what = "unknown"
		case err != nil:
			what = "refused"
		}
		fmt.Fprintln(file, what, payload, id, err)
		<-time.After(20 * time.Millisecond) // all of it is to fit into -wal: this is about commits
	}
}

type note struct{ what, payload, id string }

func readNotes(t *testing.T, file string) (list []note) {
	t.Helper()
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var n note
		if _, err := fmt.Sscan(lines.Text(), &n.what, &n.payload, &n.id); err == nil {
			list = append(list, n)
		}
	}
	return list
}

// failingDisk is an ext4 file system on a block device in memory that can be told
// to take no writes: they end with an I/O error then.
type failingDisk struct {
	t      *testing.T
	dir    string
	device string // as /dev and /sys/block have it
}

func newFailingDisk(t *testing.T) *failingDisk {
	t.Helper()
	const control = "/sys/class/zram-control/"
	number, err := os.ReadFile(control + "hot_add")
	if err != nil {
		t.Skipf("NOT TESTED, a disk that fails needs root and a kernel with zram: %v", err)
	}
	id := strings.TrimSpace(string(number))
	d := &failingDisk{t: t, dir: t.TempDir(), device: "zram" + id}
	t.Cleanup(func() {
		eventually(t, "the end of the device", func() bool {
			return os.WriteFile("/sys/block/"+d.device+"/reset", []byte("1"), 0) == nil
		})
		if err := os.WriteFile(control+"hot_remove", []byte(id), 0); err != nil {
			t.Error(err)
		}
	})
	d.set("disksize", "128M")
	// Without a journal, as a file system that can't write its journal gives up for good.
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-O", "^has_journal", "/dev/"+d.device).CombinedOutput(); err != nil {
		t.Skipf("NOT TESTED, a disk that fails needs mkfs.ext4: %v: %s", err, out)
	}
	if err := unix.Mount("/dev/"+d.device, d.dir, "ext4", 0, ""); err != nil {
		t.Skipf("NOT TESTED, a disk that fails needs CAP_SYS_ADMIN and ext4: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(d.dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return d
}

func (d *failingDisk) set(key, value string) {
	d.t.Helper()
	if err := os.WriteFile("/sys/block/"+d.device+"/"+key, []byte(value), 0); err != nil {
		d.t.Fatal(err)
	}
}

// fail has all writes fail, recover has them succeed again.
func (d *failingDisk) fail()    { d.set("mem_limit", "4096") }
func (d *failingDisk) recover() { d.set("mem_limit", "0") }

// fill has what makes the disk hold more fail, as of a volume that was promised more
// room than there is. What is written in place of other does not.
func (d *failingDisk) fill() {
	d.t.Helper()
	stat, err := os.ReadFile("/sys/block/" + d.device + "/mm_stat")
	var data, compressed, used int
	if err == nil {
		_, err = fmt.Sscan(string(stat), &data, &compressed, &used)
	}
	if err != nil {
		d.t.Fatal(err)
	}
	d.set("mem_limit", strconv.Itoa(used+64<<10))
}

// remount drops what is in the cache alone.
func (d *failingDisk) remount() {
	d.t.Helper()
	eventually(d.t, "the end of all who have a file open", func() bool { return unix.Unmount(d.dir, 0) == nil })
	if err := unix.Mount("/dev/"+d.device, d.dir, "ext4", 0, ""); err != nil {
		d.t.Fatal(err)
	}
}
