//go:build linux

package e2e_test

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

// TestCheckpointFails: a volume has no room for a moment, where a checkpoint brings the
// pages of -wal into the database, which grows by them. The next ones bring all of them
// there once more before -wal is given up: what the disk has then is whole.
func TestCheckpointFails(t *testing.T) {
	check := func(h *home, n int) {
		h.Helper()
		if got := h.sql(`PRAGMA integrity_check; SELECT count(*) FROM sync_jobs`); got != fmt.Sprintf("ok\n%d", n) {
			h.Errorf("on the disk: %.200s, want ok and %d jobs", got, n)
		}
	}
	// next has another program come, once the disk is sound.
	next := func(h *home, disk *failingDisk) {
		h.Helper()
		disk.recover()
		h.expectWAL(true)
		h.enqueuer("stats")
		h.expectWAL(false)
		disk.remount()
	}
	t.Run("at the end", func(t *testing.T) {
		h, disk := onFailingDisk(t)
		q := h.open()
		grow(t, q, 300)
		disk.fill()
		_ = q.Close()
		next(h, disk)
		check(h, 300)
	})
	t.Run("of another program", func(t *testing.T) {
		h, disk := onFailingDisk(t)
		_ = h.open().Close()
		shell, in := h.begin(`PRAGMA wal_autocheckpoint = 0; PRAGMA synchronous = FULL;
			INSERT INTO sync_jobs (job_type, payload) SELECT 'Grow', json_quote(hex(randomblob(1000))) FROM generate_series(1, 300);`)
		disk.fill()
		end(t, shell, in)
		next(h, disk)
		check(h, 300)
	})
	// Part was copied before, and somebody reads that part meanwhile: for as long
	// nothing can be mended. It is not forgotten, whoever comes next.
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("beside a reader, restart %v", restart), func(t *testing.T) {
			h, disk := onFailingDisk(t)
			_ = h.open().Close()
			q := openWatched(t, h.db)
			first, inFirst := h.begin(`BEGIN; SELECT count(*) FROM sync_jobs;`)
			grow(t, q, 3000)
			second, inSecond := h.begin(`BEGIN; SELECT count(*) FROM sync_jobs;`)
			grow(t, q, 3000)
			end(t, first, inFirst)
			q.nudge("a part that is copied", func() bool { copied, _ := h.copied(); return copied > 0 })
			reader, in := h.begin(`BEGIN; SELECT count(*) FROM sync_jobs;`)
			disk.fill()
			end(t, second, inSecond)
			q.checkpointFails()
			disk.recover()

			said := filepath.Join(t.TempDir(), "said")
			fmt.Fprintf(in, ".once %s\nPRAGMA integrity_check;\n.once %[1]s.end\nSELECT 1;\n", said)
			eventually(t, "the reader's answer", func() bool { _, err := os.Stat(said + ".end"); return err == nil })
			if got, err := os.ReadFile(said); err != nil || string(got) != "ok\n" {
				t.Errorf("the reader sees %.200s, %v", got, err)
			}
			if restart {
				_ = q.Close()
				q = openWatched(t, h.db)
			} else {
				q.checkpointFails() // the reader is in the way still
			}
			end(t, reader, in)
			grow(t, q, 3000)
			q.nudge("a copy of all", func() bool { copied, all := h.copied(); return copied == all })
			if err := q.Close(); err != nil {
				t.Error(err)
			}
			h.expectWAL(false)
			disk.remount()
			check(h, 9000)
		})
	}
}

// TestSyncFailsAtCheckpoint: a program is killed right after its sync has failed. The
// kernel tells a living process of that at a checkpoint; what it enqueues after that is
// on the disk.
func TestSyncFailsAtCheckpoint(t *testing.T) {
	if db := os.Getenv(fleetDB); db != "" {
		q := openWatched(t, db)
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			switch lines.Text() {
			case "grow":
				grow(t, q, 2000)
			case "checkpoint":
				q.checkpointFails()
			case "enqueue":
				grow(t, q, 1)
			}
			fmt.Println("did", lines.Text())
		}
		return
	}
	h, disk := onFailingDisk(t)
	_ = h.open().Close()
	living := exec.Command(os.Args[0], "-test.run", "^TestSyncFailsAtCheckpoint$")
	living.Env = append(os.Environ(), fleetDB+"="+h.db)
	in, errIn := living.StdinPipe()
	out, errOut := living.StdoutPipe()
	if err := errors.Join(errIn, errOut, living.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = living.Process.Kill(), living.Wait() })
	lines := bufio.NewScanner(out)
	tell := func(word string) {
		t.Helper()
		for fmt.Fprintln(in, word); lines.Text() != "did "+word; {
			if !lines.Scan() {
				t.Fatalf("it ended at %q", word)
			}
		}
	}
	reader, inReader := h.begin(`BEGIN; SELECT count(*) FROM sync_jobs;`)
	tell("grow")
	end(t, reader, inReader)
	disk.fail()
	failAndDie(h)
	tell("checkpoint")
	disk.recover()
	tell("enqueue")
	_, _ = living.Process.Kill(), living.Wait()
	disk.remount()
	if got := h.sql(`PRAGMA integrity_check; SELECT count(*) FROM sync_jobs`); got != "ok\n2001" {
		t.Errorf("on the disk: %.200s", got)
	}
}

func onFailingDisk(t *testing.T) (*home, *failingDisk) {
	disk := newFailingDisk(t)
	h := newHome(t)
	h.dir = filepath.Join(disk.dir, "home")
	h.db = filepath.Join(h.dir, "shoal.db")
	return h, disk
}

// grow enqueues jobs that the device can't compress.
func grow(t *testing.T, q store.Store, n int) {
	t.Helper()
	payloads := make([][]byte, n)
	for i := range payloads {
		payloads[i] = make([]byte, 1000)
		_, _ = rand.Read(payloads[i])
	}
	if _, err := jobs.EnqueueMany(t.Context(), q, "Grow", payloads); err != nil {
		t.Fatal(err)
	}
}

// end ends another program.
func end(t *testing.T, shell *exec.Cmd, in io.Closer) {
	t.Helper()
	if err := errors.Join(in.Close(), shell.Wait()); err != nil {
		t.Fatal(err)
	}
}

// expectWAL says whether the -wal file is to be there.
func (h *home) expectWAL(there bool) {
	h.Helper()
	if _, err := os.Stat(h.db + "-wal"); (err == nil) != there {
		h.Fatalf("-wal: %v, want it there: %v", err, there)
	}
}

// copied is how many pages of -wal are in the database, of all that it has (nBackfill
// and mxFrame of https://sqlite.org/walformat.html, 2.2 and 2.1).
func (h *home) copied() (n, all uint32) {
	h.Helper()
	shm, err := os.ReadFile(h.db + "-shm")
	if err != nil {
		h.Fatal(err)
	}
	return binary.NativeEndian.Uint32(shm[96:]), binary.NativeEndian.Uint32(shm[16:])
}

// watched is an open queue that tells of failed checkpoints.
type watched struct {
	store.Store
	t      *testing.T
	failed chan struct{}
}

func openWatched(t *testing.T, db string) *watched {
	t.Helper()
	w := &watched{t: t, failed: make(chan struct{}, 1)}
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{}), zapcore.AddSync(io.Discard), zap.ErrorLevel)
	log := zap.New(core, zap.Hooks(func(e zapcore.Entry) error {
		if strings.HasPrefix(e.Message, "checkpoint failed") {
			select {
			case w.failed <- struct{}{}:
			default:
			}
		}
		return nil
	}))
	var err error
	if w.Store, err = store.Open(t.Context(), db, store.Options{Logger: log}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

// nudge commits nothing until ok: after each commit a checkpoint may be due.
func (w *watched) nudge(what string, ok func() bool) {
	w.t.Helper()
	eventually(w.t, what, func() bool {
		_ = w.PauseSchedule(w.t.Context(), "none", true)
		return ok()
	})
}

func (w *watched) checkpointFails() {
	w.t.Helper()
	w.nudge("the checkpoint's failure", func() bool {
		select {
		case <-w.failed:
			return true
		default:
			return false
		}
	})
}
