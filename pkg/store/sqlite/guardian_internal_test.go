//go:build linux

package sqlite

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// All ways to name a file lead to one path.
func TestResolve(t *testing.T) {
	dir := realDir(t)
	db := filepath.Join(dir, "shoal.db")
	folder := filepath.Join(realDir(t), "folder")
	symlink(t, dir, folder)
	symlink(t, "shoal.db", filepath.Join(dir, "other.db"))
	t.Chdir(dir)

	names := []string{db, "shoal.db", "../" + filepath.Base(dir) + "/shoal.db", filepath.Join(folder, "shoal.db")}
	for _, name := range names {
		wantResolved(t, name, db) // not there yet
	}
	writeFile(t, db, "", 0o600)
	for _, name := range append(names, "other.db", filepath.Join(folder, "other.db")) {
		wantResolved(t, name, db)
	}

	symlink(t, "nowhere", filepath.Join(dir, "dangling.db"))
	for name, way := range map[string]string{
		"dangling.db":             "remove the link",
		"missing/shoal.db":        "create it",
		filepath.Join(db, "x.db"): "check the folders",
	} {
		_, err := resolve(name)
		wantRefused(t, err, name, way)
	}
}

func TestInspectAccepts(t *testing.T) {
	for name, prepare := range map[string]func(db string){
		"no file":    func(string) {},
		"empty file": func(db string) { writeFile(t, db, "", 0o600) },
		"database":   func(db string) { mustExec(t, testConn(t, db), "CREATE TABLE t (x)") },
		"database under our own driver's locks": func(db string) {
			mustExec(t, testConn(t, db), "PRAGMA journal_mode=WAL; CREATE TABLE t (x); BEGIN IMMEDIATE; INSERT INTO t VALUES (1)")
		},
		"first commit that a power cut ended": func(db string) {
			writeFile(t, db, strings.Repeat("\x00", 4096), 0o600)
			writeFile(t, db+"-journal", "a hot one", 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			db := filepath.Join(realDir(t), "shoal.db")
			prepare(db)
			if _, err := inspect(db); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestInspectRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		prepare func(db string) error
		way     string // the way out, as the message tells it
	}{
		"folder": {func(db string) error { return os.Mkdir(db, 0o700) }, "name a file in it"},
		"pipe":   {func(db string) error { return unix.Mkfifo(db, 0o600) }, "name another path"},
		"link":   {func(db string) error { return os.Symlink("x", db) }, "name another path"},
		"hard link": {func(db string) error {
			return errors.Join(os.WriteFile(db, nil, 0o600), os.Link(db, db+".bak"))
		}, "keep one name"},
		"-wal alone": {func(db string) error { return os.WriteFile(db+"-wal", []byte("x"), 0o600) }, "put it back there"},
		"-wal and no pages": {func(db string) error {
			return errors.Join(os.WriteFile(db, nil, 0o600), os.WriteFile(db+"-wal", []byte("x"), 0o600))
		}, "put it back there"},
		"text":       {func(db string) error { return os.WriteFile(db, []byte("SQLite format 2, and more"), 0o600) }, "is no SQLite database"},
		"short text": {func(db string) error { return os.WriteFile(db, []byte("SQLite format 3"), 0o600) }, "is no SQLite database"},
		"zeros":      {func(db string) error { return os.WriteFile(db, make([]byte, 4096), 0o600) }, "is no SQLite database"},
	} {
		t.Run(name, func(t *testing.T) {
			db := filepath.Join(realDir(t), "shoal.db")
			if err := test.prepare(db); err != nil {
				t.Fatal(err)
			}
			_, err := inspect(db)
			wantRefused(t, err, db, test.way)
		})
	}
}

// What a user may not write is refused, though root could.
func TestInspectAsAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED, needs root to become another user")
	}
	dir := realDir(t)
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	db := filepath.Join(dir, "shoal.db")
	writeFile(t, db, "", 0o644)

	err := asNobody(t, func() error { _, err := inspect(db); return err })
	wantRefused(t, err, db, "its folder can't be written to")
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	err = asNobody(t, func() error { _, err := inspect(db); return err })
	wantRefused(t, err, db, "give user 65534 the right to")
	if err := os.Chmod(db, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := asNobody(t, func() error { _, err := inspect(db); return err }); err != nil {
		t.Error(err)
	}
}

// A database that lost its path, or its path to another, is noticed.
func TestStill(t *testing.T) {
	for name, move := range map[string]func(db string) error{
		"moved":   func(db string) error { return os.Rename(db, db+".old") },
		"deleted": os.Remove,
		"replaced": func(db string) error {
			return errors.Join(os.WriteFile(db+".new", nil, 0o600), os.Rename(db+".new", db))
		},
		"moved, a link left": func(db string) error {
			return errors.Join(os.Rename(db, db+".old"), os.Symlink("shoal.db.old", db))
		},
		"linked": func(db string) error { return os.Link(db, db+".bak") },
	} {
		t.Run(name, func(t *testing.T) {
			db := filepath.Join(realDir(t), "shoal.db")
			mustExec(t, testConn(t, db), "CREATE TABLE t (x)")
			id, err := identify(db)
			if err != nil {
				t.Fatal(err)
			}
			if err := id.still(db); err != nil {
				t.Fatal(err)
			}
			if err := move(db); err != nil {
				t.Fatal(err)
			}
			if err := id.still(db); !errors.Is(err, errMoved) || !strings.Contains(err.Error(), db) {
				t.Errorf("still = %v, want errMoved and the path", err)
			}
		})
	}
}

// A POSIX lock of this process, which is what another SQLite library would
// hold, is refused on each of its files; that of another process is not.
func TestForeignLocks(t *testing.T) {
	db, _ := walDatabase(t)
	other := startProgram(t, exec.Command("sqlite3", db))
	fmt.Fprintln(other.stdin, "BEGIN IMMEDIATE; SELECT 'ready';")
	other.expect("ready")
	if err := foreignLocks(db); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{db, db + "-shm"} {
		file, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		lk := unix.Flock_t{Type: unix.F_RDLCK, Start: 128, Len: 1}
		if err := fcntlLock(file, unix.F_SETLK, &lk); err != nil {
			t.Fatal(err)
		}
		_, err = inspect(db)
		wantRefused(t, err, path, "close that one first")
		_, err = inspect(db)
		wantRefused(t, err, path, "close that one first") // the first look did not drop the lock
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		if err := foreignLocks(db); err != nil {
			t.Fatal(err)
		}
	}
}

// realDir is t.TempDir without links in its path.
func realDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func symlink(t *testing.T, target, name string) {
	t.Helper()
	if err := os.Symlink(target, name); err != nil {
		t.Fatal(err)
	}
}

func wantResolved(t *testing.T, name, want string) {
	t.Helper()
	if got, err := resolve(name); err != nil || got != want {
		t.Errorf("resolve(%q) = %q, %v; want %q", name, got, err, want)
	}
}

// wantRefused wants one line that names the path and the way out.
func wantRefused(t *testing.T, err error, path, way string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error, want a refusal", path)
		return
	}
	if s := err.Error(); !strings.Contains(s, path) || !strings.Contains(s, way) || strings.Contains(s, "\n") {
		t.Errorf("refusal %q: want one line with %q and %q", s, path, way)
	}
}

// asNobody runs f on a thread that has given up root. The thread ends with it.
func asNobody(t *testing.T, f func() error) error {
	t.Helper()
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked
		const nobody = 65534
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
			result <- errno
			return
		}
		result <- f()
	}()
	return <-result
}
