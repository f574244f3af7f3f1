package sqlite

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ncruces/go-sqlite3"
)

// TestGatheredFrames proves that nothing of a transaction which was rolled back, or
// whose COMMIT has failed, comes into the file later, over another's frames; and that
// pages which were written before the COMMIT and changed after that are as they were
// changed.
func TestGatheredFrames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jobs.db")
	db, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var conns []*conn
	for range 2 {
		c, err := newConn(db.path, patience(openPatience, nil), false)
		if err != nil {
			t.Fatal(err)
		}
		defer c.close()
		conns = append(conns, c)
	}
	a, b := conns[0], conns[1]
	do := func(c *conn, sql string) {
		t.Helper()
		if err := c.Exec(sql); err != nil {
			t.Fatal(err)
		}
	}
	commit := func(c *conn, sql string) {
		t.Helper()
		if err := c.begin(); err != nil {
			t.Fatal(err)
		}
		do(c, sql)
		if err := c.commit(); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range conns {
		do(c, `PRAGMA cache_size = 20; PRAGMA wal_autocheckpoint = 0`)
	}
	// More than that.
	const large = `WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
		INSERT INTO large SELECT i, hex(randomblob(400)) FROM n;`
	const larger = `WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
		INSERT INTO large SELECT i, hex(randomblob(4000)) FROM n` // each in pages of its own, of which none is read
	const all = `WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
		INSERT INTO kept SELECT i, printf('%.*c', 8000, i) FROM n;`
	commit(a, `CREATE TABLE large (i INTEGER PRIMARY KEY, t TEXT); CREATE TABLE kept (i INTEGER PRIMARY KEY, t TEXT);
		CREATE TABLE small (i INTEGER PRIMARY KEY)`)
	file, err := a.FileControl("main", sqlite3.FCNTL_JOURNAL_POINTER)
	if err != nil {
		t.Fatal(err)
	}
	wal := file.(*walFile)
	n, larges := 0, 0
	check := func(file string) {
		t.Helper()
		out, err := exec.Command("sqlite3", file, `PRAGMA integrity_check; SELECT count(*), coalesce(sum(i), 0) FROM small;
			SELECT count(*), coalesce(sum(t = 'x' || i || iif(i % 2, 'y', '')), 0) FROM large;
			SELECT count(*), sum(t = printf('%.*c', 8000, i)) FROM kept`).CombinedOutput()
		want := fmt.Sprintf("ok\n%d|%d\n%d|%d\n200|200", n, n*(n+1)/2, larges, larges)
		if got := strings.TrimSpace(string(out)); err != nil || got != want {
			t.Fatalf("%v: in %s there is\n%.300s\nwant\n%s", err, file, got, want)
		}
	}
	for range 5 {
		before := db.walBytes()
		if err := a.begin(); err != nil {
			t.Fatal(err)
		}
		do(a, larger)
		if n == 0 && db.walBytes() == before {
			t.Error("nothing was written before the end of the transaction: the test has lost its way")
		}
		a.rollback()
		commit(b, `DELETE FROM kept;`+all) // where those frames were, or would have been
		for _, c := range []*conn{a, b} {
			n++
			commit(c, fmt.Sprintf(`INSERT INTO small VALUES (%d)`, n))
			check(path)
		}
		for _, room := range []int{0, 1, 24, 4120, 5000} {
			wal.osFile = &fullFile{wal.osFile, room}
			if err := a.begin(); err != nil {
				t.Fatal(err)
			}
			do(a, `UPDATE kept SET t = 'lost' WHERE i <= 9`)
			if err := a.commit(); err == nil {
				t.Error("a COMMIT that could not be written did not fail")
			}
			a.rollback()
			wal.osFile = wal.osFile.(*fullFile).osFile
			n++
			commit(b, fmt.Sprintf(`UPDATE kept SET t = t WHERE i > 100; INSERT INTO small VALUES (%d)`, n))
			n++
			commit(a, fmt.Sprintf(`INSERT INTO small VALUES (%d)`, n))
			check(path)
		}
		n++
		commit(b, fmt.Sprintf(`INSERT INTO small VALUES (%d)`, n))
	}
	commit(a, large+`UPDATE large SET t = 'x' || i`)
	commit(b, `UPDATE large SET t = t || 'y' WHERE i % 2`)
	larges = 1000
	// Beside them, and as it is after a power cut: without the index of the -wal file,
	// whose frames count as far as their checksums go.
	cut := filepath.Join(t.TempDir(), "jobs.db")
	for _, ending := range []string{"", "-wal"} {
		if out, err := exec.Command("cp", path+ending, cut+ending).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	check(path)
	check(cut)

	// A COMMIT that makes checksums anew reads what it may not have written yet.
	wal.committing = true
	end, got := db.walBytes(), make([]byte, 3)
	for i, word := range []string{"one", "two"} {
		if _, err := wal.WriteAt([]byte(word), end+int64(3*i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := wal.ReadAt(got, end+3); err != nil || string(got) != "two" {
		t.Errorf("%q, %v; want what was written last", got, err)
	}
	if err := wal.Truncate(end); err != nil {
		t.Error(err)
	}
}

// fullFile is a file on a disk with room for so many bytes of each write.
type fullFile struct {
	osFile
	room int
}

func (f *fullFile) WriteAt(p []byte, at int64) (int, error) {
	n, err := f.osFile.WriteAt(p[:min(f.room, len(p))], at)
	return n, errors.Join(err, syscall.ENOSPC)
}
