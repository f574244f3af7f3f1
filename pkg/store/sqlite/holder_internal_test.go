//go:build linux

package sqlite

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/ncruces/go-sqlite3"
)

// A process with our driver that stands still inside a write transaction is
// found through /proc, as the kernel tells no pid for its kind of lock.
func TestHolderThatIsStopped(t *testing.T) {
	db, shm := walDatabase(t)
	wantLock(t, shm, false, 0)

	c := startChild(t, "writer", db)
	c.expect("ready")
	wantLock(t, shm, true, -1)
	c.stop()
	want := holder{PID: c.cmd.Process.Pid, Name: comm(os.Args[0]), Stopped: true}
	wantHolder(t, shm, want)

	if err := c.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	want.Stopped = false
	wantHolder(t, shm, want)

	c.kill()
	wantLock(t, shm, false, 0)
	if h, ok := holderOf(shm, walWriteLock); ok {
		t.Errorf("holder after its death: %v", h)
	}
}

// The sqlite3 program takes POSIX locks, whose pid the kernel tells. Its name
// is one that makes /proc/PID/stat hard to read.
func TestHolderWithPOSIXLocks(t *testing.T) {
	program, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Fatalf("the sqlite3 program is needed (apt-get install sqlite3): %v", err)
	}
	const name = "q) T (x"
	link := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(program, link); err != nil {
		t.Fatal(err)
	}
	db, shm := walDatabase(t)
	c := startProgram(t, exec.Command(link, db))
	fmt.Fprintln(c.stdin, "BEGIN IMMEDIATE; SELECT 'ready';")
	c.expect("ready")

	wantLock(t, shm, true, c.cmd.Process.Pid)
	wantHolder(t, shm, holder{PID: c.cmd.Process.Pid, Name: name})
	fmt.Fprintln(c.stdin, "COMMIT; SELECT 'done';")
	c.expect("done")
	wantLock(t, shm, false, 0)
}

// A connection of this process is found too, and other locks on the same file
// are not mistaken for the write lock.
func TestHolderIsThisProcess(t *testing.T) {
	db, shm := walDatabase(t)
	conn := testConn(t, db)
	mustExec(t, conn, "BEGIN; SELECT count(*) FROM sqlite_schema") // a reader
	wantLock(t, shm, false, 0)
	mustExec(t, conn, "COMMIT; BEGIN IMMEDIATE")
	wantLock(t, shm, true, -1)
	wantHolder(t, shm, holder{PID: os.Getpid(), Name: comm(os.Args[0])})
}

func TestHolderString(t *testing.T) {
	for want, h := range map[string]holder{
		"pid 4711":                   {PID: 4711},
		"pid 4711 (worker)":          {PID: 4711, Name: "worker"},
		"pid 4711 (worker, stopped)": {PID: 4711, Name: "worker", Stopped: true},
	} {
		if got := h.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestParseLock(t *testing.T) {
	for line, want := range map[string]fdLock{
		"lock:\t1: OFDLCK ADVISORY  WRITE -1 08:01:4711 120 120\n": {kind: "OFDLCK", first: 120, last: 120},
		"lock:\t2: POSIX  ADVISORY  READ 815 00:2b:7 0 EOF\n":      {kind: "POSIX", last: 1<<63 - 1},
	} {
		if got, ok := parseLock(line); !ok || got != want {
			t.Errorf("parseLock(%q) = %+v, %v; want %+v", line, got, ok, want)
		}
	}
	for _, line := range []string{"", "pos:\t0\n", "lock:\t1: LEASE  ACTIVE READ 8\n", "lock:\t1: POSIX  ADVISORY  READ 8 00:2b:7 x EOF\n"} {
		if got, ok := parseLock(line); ok {
			t.Errorf("parseLock(%q) = %+v, want none", line, got)
		}
	}
}

// walDatabase returns a database in WAL mode that stays open until the end of
// the test, so that its -shm is there, and a descriptor of that.
func walDatabase(t *testing.T) (db string, shm *os.File) {
	t.Helper()
	db = filepath.Join(t.TempDir(), "shoal.db")
	mustExec(t, testConn(t, db), "PRAGMA journal_mode=WAL; CREATE TABLE t (x)")
	return db, openShm(t, db)
}

func openShm(t *testing.T, db string) *os.File {
	t.Helper()
	shm, err := os.Open(db + "-shm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shm.Close() })
	return shm
}

func testConn(t *testing.T, db string) *sqlite3.Conn {
	t.Helper()
	conn, err := sqlite3.Open(db)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func mustExec(t *testing.T, conn *sqlite3.Conn, sql string) {
	t.Helper()
	if err := conn.Exec(sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func wantLock(t *testing.T, shm *os.File, want bool, wantPID int) {
	t.Helper()
	held, pid, err := testLock(shm, walWriteLock)
	if err != nil || held != want || pid != wantPID {
		t.Fatalf("testLock = %v, %d, %v; want %v, %d", held, pid, err, want, wantPID)
	}
}

func wantHolder(t *testing.T, shm *os.File, want holder) {
	t.Helper()
	if got, ok := holderOf(shm, walWriteLock); !ok || got != want {
		t.Fatalf("holderOf = %+v, %v; want %+v", got, ok, want)
	}
}

// comm is what the kernel calls a process that was started from path.
func comm(path string) string {
	name := filepath.Base(path)
	return name[:min(len(name), 15)]
}

// holdWriteLock is a child inside a write transaction.
func holdWriteLock(args []string) error {
	conn, err := sqlite3.Open(args[0])
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.Exec("BEGIN IMMEDIATE; INSERT INTO t VALUES (1)"); err != nil {
		return err
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
