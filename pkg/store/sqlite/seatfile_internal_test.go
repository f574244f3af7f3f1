//go:build linux

package sqlite

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// Two open file descriptions exclude each other, within one process too.
func TestSeatIsHeldOnce(t *testing.T) {
	db := filepath.Join(t.TempDir(), "shoal.db")
	a, b := openSeats(t, db), openSeats(t, db)
	for _, id := range []int64{1, 120, math.MaxInt64} {
		if err := a.Take(id); err != nil {
			t.Fatal(err)
		}
		if err := b.Take(id); !errors.Is(err, errSeatTaken) {
			t.Fatalf("second Take(%d) = %v, want errSeatTaken", id, err)
		}
		wantHeld(t, b, id, true)
		wantHeld(t, a, id, false) // its own
		wantHeld(t, b, id-1, false)
		if err := a.Give(id); err != nil {
			t.Fatal(err)
		}
		wantHeld(t, b, id, false)
		if err := b.Take(id); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Take(0); err == nil {
		t.Error("Take(0) succeeded")
	}
}

// Closing another descriptor of the file, which drops POSIX locks, leaves the
// seats alone.
func TestSeatSurvivesAnotherClose(t *testing.T) {
	db := filepath.Join(t.TempDir(), "shoal.db")
	mine, other := openSeats(t, db), openSeats(t, db)
	if err := mine.Take(1); err != nil {
		t.Fatal(err)
	}
	if err := openSeats(t, db).Close(); err != nil {
		t.Fatal(err)
	}
	wantHeld(t, other, 1, true)
}

// A stopped process keeps its byte; a killed one has lost it by the time that
// its parent knows of its end.
func TestSeatFallsFreeWithItsProcess(t *testing.T) {
	db := filepath.Join(t.TempDir(), "shoal.db")
	seats := openSeats(t, db)
	c := startChild(t, "seat", db, "7")
	c.expect("ready")
	wantHeld(t, seats, 7, true)
	c.stop()
	wantHeld(t, seats, 7, true)
	c.kill()
	wantHeld(t, seats, 7, false)
}

// A process that inherited the descriptor keeps the byte after the death of
// the one that took it. This is what a guard process is built on.
func TestSeatIsHeldByWhoInheritedIt(t *testing.T) {
	db := filepath.Join(t.TempDir(), "shoal.db")
	seats := openSeats(t, db)
	c := startChild(t, "seat and heir", db, "7")
	c.expect("ready")
	c.kill()
	wantHeld(t, seats, 7, true)

	c.stdin.Close() // the heir's as well
	lk := unix.Flock_t{Type: unix.F_WRLCK, Start: 7, Len: 1}
	if err := fcntlLock(seats.File(), unix.F_OFD_SETLKW, &lk); err != nil {
		t.Fatal(err)
	}
}

func TestSeatFileTakesTheMode(t *testing.T) {
	old := unix.Umask(0o077)
	t.Cleanup(func() { unix.Umask(old) })
	for _, test := range []struct{ db, had, want os.FileMode }{
		{want: 0o600},
		{db: 0o600, want: 0o600},
		{db: 0o664, want: 0o664},
		{db: 0o664, had: 0o640, want: 0o640}, // one that is there keeps its own
	} {
		db := filepath.Join(t.TempDir(), "shoal.db")
		if test.db != 0 {
			writeFile(t, db, "", test.db)
		}
		if test.had != 0 {
			writeFile(t, db+"-workers", "kept", test.had)
		}
		info, err := openSeats(t, db).File().Stat()
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != test.want {
			t.Errorf("database %o, seat file before %o: mode %o, want %o", test.db, test.had, got, test.want)
		}
		if test.had != 0 && info.Size() != int64(len("kept")) {
			t.Error("the seat file was truncated")
		}
	}
}

func TestSeatFileIsNoLink(t *testing.T) {
	db := filepath.Join(t.TempDir(), "shoal.db")
	if err := os.Symlink("elsewhere", db+"-workers"); err != nil {
		t.Fatal(err)
	}
	if _, err := openSeatFile(db); !errors.Is(err, unix.ELOOP) {
		t.Errorf("openSeatFile through a link = %v, want ELOOP", err)
	}
}

func openSeats(t *testing.T, db string) *seatFile {
	t.Helper()
	f, err := openSeatFile(db)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func wantHeld(t *testing.T, f *seatFile, id int64, want bool) {
	t.Helper()
	if got, err := f.Held(id); err != nil || got != want {
		t.Fatalf("Held(%d) = %v, %v; want %v", id, got, err, want)
	}
}

// writeFile makes a file of exactly that mode, whatever the umask.
func writeFile(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// takeSeat is a child that takes one seat.
func takeSeat(args []string) error {
	if _, err := openAndTake(args); err != nil {
		return err
	}
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// takeSeatAndBequeath is one that starts a process which inherits the seat.
func takeSeatAndBequeath(args []string) error {
	f, err := openAndTake(args)
	if err != nil {
		return err
	}
	heir := exec.Command("cat")
	heir.Stdin, heir.ExtraFiles = os.Stdin, []*os.File{f.File()}
	if err := heir.Start(); err != nil {
		return err
	}
	fmt.Println("ready")
	return heir.Wait()
}

func openAndTake(args []string) (*seatFile, error) {
	id, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return nil, err
	}
	f, err := openSeatFile(args[0])
	if err != nil {
		return nil, err
	}
	return f, f.Take(id)
}
