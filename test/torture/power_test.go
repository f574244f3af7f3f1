//go:build linux

package torture_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// volume is an ext4 file system on a loop device, whose power can be cut.
type volume struct {
	image, dir string
}

// newVolume makes one; where this machine has no loop devices or the rights are
// missing, the test says so and is skipped.
func newVolume(t *testing.T) *volume {
	t.Helper()
	v := &volume{image: filepath.Join(t.TempDir(), "image"), dir: filepath.Join(t.TempDir(), "volume")}
	if err := os.Mkdir(v.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil || !mayMount() {
		t.Skip("NOT TESTED, power cuts: they need the rights of root (CAP_SYS_ADMIN) and loop devices")
	}
	f, err := os.Create(v.image)
	if err == nil {
		err = f.Truncate(64 << 20)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", v.image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v: %s", err, out)
	}
	v.mount(t)
	t.Cleanup(func() { _ = exec.Command("umount", "-l", v.dir).Run() })
	return v
}

// mayMount says whether this process has CAP_SYS_ADMIN, the right to mount.
func mayMount() bool {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	return unix.Capget(&head, &sets[0]) == nil && sets[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

func (v *volume) mount(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("mount", "-o", "loop", v.image, v.dir).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v: %s", err, out)
	}
}

// ext4Shutdown is EXT4_IOC_SHUTDOWN (fs/ext4/ext4.h); with noLogFlush what is in
// memory alone is lost, the journal's included, as when the power fails.
const (
	ext4Shutdown = 0x8004587d
	noLogFlush   = 2
)

// cut cuts the power: from then on every write fails, and what was not synced
// will not be there. It returns when it began. What is acknowledged after that
// nobody would have heard: the kernel takes a moment to fail every call, and in
// it may say that a sync succeeded whose blocks it no longer maps.
func (v *volume) cut(t *testing.T) (began int64) {
	t.Helper()
	dir, err := os.Open(v.dir)
	if began = monotonic(); err == nil {
		err = unix.IoctlSetPointerInt(int(dir.Fd()), ext4Shutdown, noLogFlush)
		dir.Close()
	}
	if err != nil {
		t.Fatalf("the power could not be cut: %v", err)
	}
	return began
}

// restore mounts the volume as it is after the power cut.
func (v *volume) restore(t *testing.T) {
	t.Helper()
	eventually(t, "the volume to be free", 20*time.Second, func() bool { return exec.Command("umount", v.dir).Run() == nil })
	v.mount(t)
}

// TestPowerCut: what was acknowledged before a power cut is there after it, and
// the file is whole. Each cut hits a fleet that enqueues and works.
func TestPowerCut(t *testing.T) {
	o := options{seed: seed(t), lease: 2 * time.Second, queue: "torture", producers: 2, rate: 800}
	binary := build(t)
	v := newVolume(t)
	o.db = filepath.Join(v.dir, "shoal.db")
	makeFile(t, o.db)
	rng := rand.New(rand.NewPCG(o.seed, 2))
	acknowledged, began := 0, time.Now()
	kept := make(map[string]int64) // acknowledged before any of the cuts, by key: the job
	for cut := range *cutsFlag {
		f := newFleet(t, o, binary)
		for place := range 2 {
			f.launch(f.worker(place, cut), "")
			f.launch(f.producer(place, cut), "")
		}
		before := monotonic()
		eventually(t, "the fleet at work", 20*time.Second, func() bool {
			return fileSize(f, f.all[1]) > 0 && fileSize(f, f.all[3]) > 0 && monotonic()-before > 300e6
		})
		pause(t.Context(), time.Duration(rng.IntN(300))*time.Millisecond)
		at := v.cut(t)
		f.killAll()
		for _, p := range f.all {
			<-p.done
		}
		v.restore(t)
		n := checkAfterCut(t, o, f.dir, at, kept)
		if acknowledged += n; n == 0 {
			t.Error("nothing was acknowledged before this cut")
		}
		if t.Failed() {
			t.Fatalf("after cut %d of seed %d", cut+1, o.seed)
		}
	}
	t.Logf("power cuts: %d at synchronous=FULL: %d enqueues and outcomes acknowledged, 0 lost (%v)", *cutsFlag, acknowledged, time.Since(began).Round(time.Second))
}

func fileSize(f *fleet, p *process) int64 {
	info, err := os.Stat(filepath.Join(f.dir, p.Name+".history"))
	if err != nil {
		f.Fatal(err)
	}
	return info.Size()
}

// checkAfterCut compares the histories of the processes that a power cut hit
// with the file, and returns how much of it was acknowledged before. What was
// acknowledged before earlier cuts is looked at again.
func checkAfterCut(t *testing.T, o options, dir string, cut int64, kept map[string]int64) (acknowledged int) {
	t.Helper()
	s := tell(t, o, dir)
	told := func(c call) bool { return c.happened() && c.to < cut }
	s.checkWhole()
	var lost []string
	for _, c := range s.calls["enqueue"] {
		for i, key := range c.Keys {
			if told(c) {
				acknowledged++
				kept[key] = c.answer.IDs[i]
			}
		}
	}
	for key, id := range kept {
		if rows := s.byKey[key]; len(rows) != 1 || rows[0].ID != id {
			lost = append(lost, "enqueue "+key)
		}
	}
	for _, c := range s.turns() {
		if !told(c) {
			continue
		}
		for _, cl := range c.answer.Claimed {
			if job := s.jobs[cl.ID]; job == nil || job.Token < cl.Token {
				lost = append(lost, fmt.Sprintf("claim of job %d, token %d", cl.ID, cl.Token))
			}
		}
		for _, out := range c.Outcomes {
			if job := s.jobs[out.ID]; job == nil || job.Token == out.Token && job.Status == "running" {
				lost = append(lost, fmt.Sprintf("outcome of job %d, token %d", out.ID, out.Token))
			} else {
				acknowledged++
			}
		}
	}
	for _, c := range s.calls["finish"] {
		if out := c.Outcomes[0]; told(c) && (s.jobs[out.ID] == nil || s.jobs[out.ID].Status != out.Status) {
			lost = append(lost, fmt.Sprintf("commit of job %d", out.ID))
		}
	}
	s.complain("acknowledged before the power cut and lost", lost)
	return acknowledged
}
