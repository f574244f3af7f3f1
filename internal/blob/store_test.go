package blob_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ipfs/go-cid"

	"github.com/shoal-project/shoal/internal/blob"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("BLOB_TEST_HOLD"); dir != "" {
		holdBatch(dir)
	}
	os.Exit(m.Run())
}

// holdBatch is a process that dies with a batch under way.
func holdBatch(dir string) {
	b := blob.Open(dir).NewBatch()
	if _, err := b.Put(blob.Raw, []byte("never committed")); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin) // until killed
	os.Exit(1)
}

func put(t *testing.T, s *blob.Store, data ...string) []cid.Cid {
	t.Helper()
	b := s.NewBatch()
	defer b.Discard()
	var cids []cid.Cid
	for _, d := range data {
		c, err := b.Put(blob.Raw, []byte(d))
		if err != nil {
			t.Fatal(err)
		}
		cids = append(cids, c)
	}
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	return cids
}

// files lists what is below dir, and checks the modes of all of it.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && p == dir {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = fs.ModeDir | 0o700
		} else {
			rel, _ := filepath.Rel(dir, p)
			names = append(names, rel)
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", p, info.Mode(), want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestBlobsBecomeVisibleWithCommit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home", "blobs")
	s := blob.Open(dir)
	b := s.NewBatch()
	b.Discard()
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal("something was made before the first write")
	}

	c, err := b.Put(blob.Raw, []byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(c); s.Has(c) || !errors.Is(err, blob.ErrNotFound) {
		t.Fatalf("visible before Commit: %v", err)
	}
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	if data, err := s.Get(c); err != nil || string(data) != "content" {
		t.Fatalf("Get = %q, %v", data, err)
	}
	if !s.Has(c) {
		t.Fatal("Has = false after Commit")
	}
	if _, err := b.Put(blob.Raw, []byte("dropped")); err != nil {
		t.Fatal(err)
	}
	if got := b.Added(); got != (blob.Added{Blobs: 2, Bytes: 14}) {
		t.Errorf("Added = %+v", got)
	}
	b.Discard()
	name := c.String()
	want := filepath.Join(name[len(name)-3:len(name)-1], name)
	if got := files(t, dir); len(got) != 1 || got[0] != want {
		t.Errorf("left on the disk: %q, want %q alone", got, want)
	}
}

func TestReceiveRefuses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "blobs")
	s := blob.Open(dir)
	b := s.NewBatch()
	defer b.Discard()
	broken := errors.New("connection lost")
	c := blob.Sum(blob.Raw, []byte("right"))
	for name, tc := range map[string]struct {
		c    cid.Cid
		r    io.Reader
		want error
	}{
		"other content": {c, strings.NewReader("wrong"), blob.ErrMismatch},
		"cut short":     {c, strings.NewReader("righ"), blob.ErrMismatch},
		"too much":      {c, strings.NewReader("right and more"), blob.ErrMismatch},
		"endless":       {c, endless{}, blob.ErrTooLarge},
		"other codec":   {blob.Sum(blob.DagCBOR, []byte("right")), strings.NewReader("left"), blob.ErrMismatch},
		"read error":    {c, io.MultiReader(strings.NewReader("ri"), failing{broken}), broken},
		"no CID":        {cid.Undef, strings.NewReader(""), blob.ErrBadCID},
	} {
		if _, err := b.Receive(tc.c, tc.r); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	if _, err := b.Put(blob.Raw, make([]byte, blob.MaxSize+1)); !errors.Is(err, blob.ErrTooLarge) {
		t.Errorf("Put above the limit: %v", err)
	}
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	if left := files(t, dir); len(left) != 0 {
		t.Errorf("left on the disk: %q", left)
	}

	// The same CID, sent right, and then once more: nothing is read.
	if n, err := b.Receive(c, strings.NewReader("right")); n != 5 || err != nil {
		t.Fatal(n, err)
	}
	for range 2 {
		if n, err := b.Receive(c, failing{broken}); n != 0 || err != nil {
			t.Errorf("a blob that is there was read again: %d, %v", n, err)
		}
		if err := b.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Put(blob.Raw, make([]byte, blob.MaxSize)); err != nil {
		t.Errorf("Put at the limit: %v", err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestCorruptBlobIsSetAside(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"flipped bit": func(b []byte) []byte { b[3] ^= 1; return b },
		"cut short":   func(b []byte) []byte { return b[:4] },
		"emptied":     func([]byte) []byte { return nil },
		"grown":       func(b []byte) []byte { return append(b, make([]byte, blob.MaxSize)...) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "blobs")
			s := blob.Open(dir)
			cids := put(t, s, "precious", "other")
			path := filepath.Join(dir, files(t, dir)[0])
			if filepath.Base(path) != cids[0].String() {
				path = filepath.Join(dir, files(t, dir)[1])
			}
			if err := os.WriteFile(path, damage([]byte("precious")), 0o600); err != nil {
				t.Fatal(err)
			}
			if data, err := s.Get(cids[0]); data != nil || !errors.Is(err, blob.ErrCorrupt) {
				t.Fatalf("Get = %q, %v; want ErrCorrupt", data, err)
			}
			if _, err := s.Get(cids[0]); s.Has(cids[0]) || !errors.Is(err, blob.ErrNotFound) {
				t.Fatalf("it is still in the way: %v", err)
			}
			put(t, s, "precious")
			for i, want := range []string{"precious", "other"} {
				if data, err := s.Get(cids[i]); err != nil || string(data) != want {
					t.Errorf("Get = %q, %v; want %q", data, err, want)
				}
			}
		})
	}
}

// Proves that batches which write the same blobs at once, in two stores over one
// folder as two processes would have them, disturb neither each other nor
// readers, and leave no temporary file.
func TestConcurrentBatches(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "blobs")
	stores := []*blob.Store{blob.Open(dir), blob.Open(dir)}
	shared := stores[0].NewBatch()
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			own := stores[w%2].NewBatch()
			defer own.Discard()
			for i := range 60 {
				data := bytes.Repeat([]byte{byte(i)}, 100+i)
				batch := own
				if w < 4 {
					batch = shared
				}
				c := blob.Sum(blob.Raw, data)
				if _, err := batch.Receive(c, bytes.NewReader(data)); err != nil {
					t.Error(err)
				}
				if i%20 == w {
					if err := batch.Commit(); err != nil {
						t.Error(err)
					}
				}
				if got, err := stores[0].Get(c); err == nil && !bytes.Equal(got, data) {
					t.Error("a reader saw half a blob")
				} else if err != nil && !errors.Is(err, blob.ErrNotFound) {
					t.Error(err)
				}
			}
			if err := own.Commit(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := shared.Commit(); err != nil {
		t.Error(err)
	}
	shared.Discard()
	if got := files(t, dir); len(got) != 60 {
		t.Errorf("%d files, want 60: %q", len(got), got)
	}
}

// Proves that a process killed with a batch under way leaves no visible blob,
// and that its temporary files go with the next process's first write, while
// those of a live one stay.
func TestKilledBatchIsSwept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "blobs")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "BLOB_TEST_HOLD="+dir)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || line != "ready\n" {
		t.Fatalf("child says %q, %v", line, err)
	}

	put(t, blob.Open(dir), "while it lives")
	if got := files(t, dir); len(got) != 2 {
		t.Fatalf("a live batch was swept: %q", got)
	}
	cmd.Process.Kill()
	cmd.Wait()
	put(t, blob.Open(dir), "when it is dead")
	if got := files(t, dir); len(got) != 2 || blob.Open(dir).Has(blob.Sum(blob.Raw, []byte("never committed"))) {
		t.Errorf("a dead batch was not swept: %q", got)
	}
}
