package bucket_test

import (
	"bytes"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shoal-project/shoal/internal/blob"
	"github.com/shoal-project/shoal/internal/bucket"
)

// snapshot says of every path below dir what a version has to keep of it.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch info.Mode().Type() {
		case 0:
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			all[rel] = fmt.Sprintf("%v %d %v %x", info.Mode(), len(data), info.ModTime().UTC(), sha256.Sum256(data))
		case fs.ModeSymlink:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			all[rel] = "-> " + target
		default:
			all[rel] = info.Mode().String()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestFolderRoundTrip(t *testing.T) {
	h := newHome(t, "owner")
	id := h.create(t, "photos").Bucket
	dir := t.TempDir()
	big := make([]byte, 3*blob.ChunkSize+17)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(big) // never fails
	write(t, dir, map[string]string{
		"a.txt":             "hello",
		"a/b":               "sorts between",
		"a-b":               "and before",
		"empty":             "",
		"empty-folder/":     "",
		"deep/er/est/":      "",
		"déjà vu/日本語.txt":   "unicode",
		"quote'\"\\\n*name": "odd",
		"exact":             string(big[:blob.ChunkSize]),
		"exact2":            string(big[:2*blob.ChunkSize]),
		"big":               string(big),
		"link":              "->a.txt",
		"broken":            "->no/such",
		"here":              "->.",
		"deep/er/up":        "->../../a/b",
		"deep/folder":       "->./er//est/",
	})
	for p, mode := range map[string]fs.FileMode{"a.txt": 0o755, "big": 0o400, "a": 0o700, "deep/er/est": 0o555} {
		if err := os.Chmod(filepath.Join(dir, p), mode); err != nil {
			t.Fatal(err)
		}
	}
	for p, at := range map[string]time.Time{
		"a.txt": time.Unix(1_000_000_000, 123_456_789), "big": time.Unix(-86400, 0), "empty": time.Unix(0, 0),
	} {
		if err := os.Chtimes(filepath.Join(dir, p), at, at); err != nil {
			t.Fatal(err)
		}
	}
	before := snapshot(t, dir)
	v := h.commit(t, id, dir, nil)
	if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
		t.Errorf("the commit changed the folder:\n%s", diff)
	}
	want := bucket.Stats{Files: 9, Folders: 6, Symlinks: 5, Bytes: int64(6*blob.ChunkSize + 17 + 5 + 13 + 10 + 7 + 3)}
	if diff := cmp.Diff(want, v.Stats); diff != "" {
		t.Errorf("stats:\n%s", diff)
	}

	for name, out := range map[string]string{"absent": filepath.Join(t.TempDir(), "out"), "empty": t.TempDir()} {
		stats, err := bucket.Export(t.Context(), h.Blobs, h.Identity, v.Manifest, out)
		if err != nil || stats != want {
			t.Fatalf("%s: %+v, %v", name, stats, err)
		}
		if diff := cmp.Diff(before, snapshot(t, out)); diff != "" {
			t.Errorf("%s: the export differs:\n%s", name, diff)
		}
		left, _ := filepath.Glob(filepath.Join(filepath.Dir(out), ".export-*"))
		if len(left) > 0 {
			t.Errorf("%s: left behind: %q", name, left)
		}
		_, err = bucket.Export(t.Context(), h.Blobs, h.Identity, v.Manifest, out)
		if err == nil || !strings.Contains(err.Error(), "is not empty") {
			t.Errorf("%s: a second export: %v", name, err)
		}
	}
	nowhere := filepath.Join(t.TempDir(), "missing")
	if _, err := bucket.Export(t.Context(), h.Blobs, h.Identity, v.Manifest, filepath.Join(nowhere, "out")); err == nil ||
		!strings.Contains(err.Error(), "the folder "+nowhere+" is not there; create it") {
		t.Errorf("an export to no folder: %v", err)
	}
	report, err := bucket.Verify(t.Context(), h.Blobs, h.Identity, v.Manifest)
	if err != nil || !report.Opened || report.Stats != want || report.Blobs != len(pins(t, h, v.Manifest)) {
		t.Errorf("Verify = %+v, %v", report, err)
	}

	again, err := h.Commit(t.Context(), id, dir)
	if err != nil || !again.Unchanged || again.Manifest.Link() != v.Manifest.Link() || again.Added.Blobs != 0 {
		t.Errorf("an unchanged folder: %+v, %v", again, err)
	}
}

// Proves that every kind of change makes a version, and that going back to a
// former state writes no content again.
func TestEveryChangeCounts(t *testing.T) {
	h := newHome(t, "owner")
	id := h.create(t, "b").Bucket
	dir := t.TempDir()
	at := time.Unix(1_700_000_000, 0)
	reset := func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		write(t, dir, map[string]string{"f": "content", "g": "other", "d/": "", "l": "->f"})
		for _, f := range []string{"f", "g"} {
			if err := os.Chtimes(filepath.Join(dir, f), at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	reset()
	base := h.commit(t, id, dir, nil)
	in := func(p string) string { return filepath.Join(dir, p) }
	for name, change := range map[string]func() error{
		"mode":     func() error { return os.Chmod(in("f"), 0o755) },
		"time":     func() error { return os.Chtimes(in("f"), at, at.Add(1)) },
		"rename":   func() error { return os.Rename(in("f"), in("e")) },
		"remove":   func() error { return os.Remove(in("g")) },
		"folder":   func() error { return os.Remove(in("d")) },
		"retarget": func() error { return errors.Join(os.Remove(in("l")), os.Symlink("g", in("l"))) },
		"content, same size and time": func() error {
			return errors.Join(os.WriteFile(in("f"), []byte("CONTENT"), 0o644), os.Chtimes(in("f"), at, at))
		},
	} {
		if err := change(); err != nil {
			t.Fatal(name, err)
		}
		v, err := h.Commit(t.Context(), id, dir)
		if err != nil || v.Unchanged {
			t.Errorf("%s: no new version: %v", name, err)
		}
		h.apply(t, v, err)
		reset()
		back := h.commit(t, id, dir, nil)
		if back.Manifest.Tree != base.Manifest.Tree || back.Manifest.Pins != base.Manifest.Pins {
			t.Errorf("%s: equal folders, other trees", name)
		}
		if back.Added.Blobs != 1 {
			t.Errorf("%s: %d blobs written to go back, want the manifest alone", name, back.Added.Blobs)
		}
	}
}

func TestCommitRefuses(t *testing.T) {
	h := newHome(t, "owner")
	m := h.create(t, "b")
	for name, tc := range map[string]struct {
		make func(dir string) error
		want string
	}{
		"socket": {func(dir string) error {
			_, err := net.Listen("unix", filepath.Join(dir, "s"))
			return err
		}, `"sub/s": a socket`},
		"named pipe":    {func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, "p"), 0o600) }, `"sub/p": a named pipe`},
		"decomposed":    {func(dir string) error { return os.WriteFile(filepath.Join(dir, "e\u0301"), nil, 0o600) }, "NFC"},
		"not UTF-8":     {func(dir string) error { return os.WriteFile(filepath.Join(dir, "\xff"), nil, 0o600) }, `"sub/\xff": the name is not UTF-8`},
		"up and out":    {func(dir string) error { return os.Symlink("../..", filepath.Join(dir, "l")) }, `"sub/l": a symbolic link to "../.."`},
		"absolute":      {func(dir string) error { return os.Symlink(dir, filepath.Join(dir, "l")) }, "may lead out"},
		"down, then up": {func(dir string) error { return os.Symlink("x/../y", filepath.Join(dir, "l")) }, "may lead out"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, map[string]string{"fine": "x", "sub/": ""})
			if err := tc.make(filepath.Join(dir, "sub")); err != nil {
				t.Fatal(err)
			}
			_, err := h.Commit(t.Context(), m.Bucket, dir)
			if !errors.Is(err, bucket.ErrUnfit) || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("%v, want ErrUnfit with %s", err, tc.want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than a line: %q", err)
			}
		})
	}
	file := filepath.Join(t.TempDir(), "file")
	write(t, filepath.Dir(file), map[string]string{"file": ""})
	for _, dir := range []string{filepath.Join(t.TempDir(), "absent"), file} {
		if _, err := h.Commit(t.Context(), m.Bucket, dir); !errors.Is(err, bucket.ErrUnfit) {
			t.Errorf("commit %s: %v", dir, err)
		}
	}
	if head, err := h.Log.Head(t.Context(), m.Bucket); err != nil || head.Link != m.Link() {
		t.Errorf("a refused commit moved the head: %+v, %v", head, err)
	}
	if _, err := h.Commit(t.Context(), bucket.ID{}, file); !errors.Is(err, bucket.ErrUnknownBucket) {
		t.Errorf("unknown bucket: %v", err)
	}
}

// Proves that a file which a writer keeps rewriting is refused or stored as one
// of the states it had, never as a mixture.
func TestChangingFile(t *testing.T) {
	h := newHome(t, "owner")
	id := h.create(t, "b").Bucket
	dir := t.TempDir()
	state := func(b byte) []byte { return bytes.Repeat([]byte{b}, 5*blob.ChunkSize/2) }
	p := filepath.Join(dir, "f")
	if err := os.WriteFile(p, state('a'), 0o600); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for b := byte('a'); ; b = 'a' + (b-'a'+1)%26 {
			select {
			case <-stop:
				return
			default:
				if err := os.WriteFile(p, state(b), 0o600); err != nil {
					t.Error(err)
				}
			}
		}
	})
	for i := range 3 {
		v, err := h.Commit(t.Context(), id, dir)
		if errors.Is(err, bucket.ErrUnfit) {
			if !strings.Contains(err.Error(), `"f": changes while it is read`) {
				t.Errorf("not one clear line: %v", err)
			}
			continue
		}
		m := h.apply(t, v, err)
		out := filepath.Join(t.TempDir(), fmt.Sprint(i))
		if _, err := bucket.Export(t.Context(), h.Blobs, h.Identity, m, out); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(out, "f"))
		if err != nil || len(data) > 0 && len(bytes.Trim(data, string(data[:1]))) > 0 {
			t.Errorf("a mixture was committed: %v", err)
		}
	}
	close(stop)
	wg.Wait()
}

// Proves the fence: of two commits on one head one is accepted, the other is
// told to look again, and its second try succeeds.
func TestConcurrentCommits(t *testing.T) {
	h := newHome(t, "owner")
	id := h.create(t, "b").Bucket
	var versions []*bucket.Version
	for _, content := range []string{"one", "two"} {
		dir := t.TempDir()
		write(t, dir, map[string]string{"f": content})
		v, err := h.Commit(t.Context(), id, dir)
		if err != nil {
			t.Fatal(err)
		}
		versions = append(versions, v)
	}
	errs := make([]error, len(versions))
	var wg sync.WaitGroup
	for i, v := range versions {
		wg.Go(func() {
			errs[i] = h.tables.Write(t.Context(), func(tx *sql.Tx) error { return h.Log.AppendVersion(t.Context(), tx, v) })
		})
	}
	wg.Wait()
	lost := 0
	if errs[0] == nil {
		lost = 1
	}
	if errs[1-lost] != nil || !errors.Is(errs[lost], bucket.ErrHeadMoved) {
		t.Fatalf("errors %v", errs)
	}
	h.commit(t, id, t.TempDir(), map[string]string{"f": "three"})
	if all, err := h.Log.Entries(t.Context(), id); err != nil || len(all) != 3 {
		t.Errorf("%d versions, %v", len(all), err)
	}
}
