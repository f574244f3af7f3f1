package bucket

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ipfs/go-cid"
	"lukechampine.com/blake3"

	"github.com/shoal-project/shoal/internal/blob"
)

// This test is not black box: it makes what the package itself never makes, the
// trees of an owner with other software and bad intentions.

type forger struct {
	t     *testing.T
	blobs *blob.Store
	owner ed25519.PrivateKey
	key   Key
	dir   string
}

func newForger(t *testing.T) *forger {
	seed := sha256.Sum256([]byte("forger"))
	dir := t.TempDir()
	return &forger{t, blob.Open(filepath.Join(dir, "blobs")), ed25519.NewKeyFromSeed(seed[:]), newKey(), dir}
}

// version is a signed genesis over a tree of just these entries.
func (f *forger) version(entries []TreeEntry, edit func(*blob.Batch, *Manifest)) *Manifest {
	f.t.Helper()
	self := PeerIDOf(f.owner.Public().(ed25519.PublicKey))
	wrapped, err := f.key.wrap(self)
	if err != nil {
		f.t.Fatal(err)
	}
	m := &Manifest{
		Format: 1, Name: "evil", Nonce: make([]byte, nonceSize),
		Shares: map[PeerID]Share{self: {Role: Owner}}, Keys: map[PeerID][]byte{self: wrapped},
	}
	batch := f.blobs.NewBatch()
	defer batch.Discard()
	if err := writeContent(batch, f.key, m, entries); err != nil {
		f.t.Fatal(err)
	}
	if edit != nil {
		edit(batch, m)
	}
	if err := errors.Join(m.Sign(f.owner), batch.Commit()); err != nil {
		f.t.Fatal(err)
	}
	return m
}

// file is a good entry over one chunk of that content.
func (f *forger) file(p, content string) TreeEntry {
	f.t.Helper()
	batch := f.blobs.NewBatch()
	defer batch.Discard()
	c, err := batch.Put(blob.Raw, f.key.Seal(KindChunk, []byte(content)))
	if err := errors.Join(err, batch.Commit()); err != nil {
		f.t.Fatal(err)
	}
	hash := blake3.Sum256([]byte(content))
	return TreeEntry{Path: p, Kind: File, Mode: 0o644, Size: int64(len(content)), Hash: hash[:], Chunks: []Link{{c}}}
}

func TestHostileTrees(t *testing.T) {
	f := newForger(t)
	outside := filepath.Join(f.dir, "outside")
	if err := os.Mkdir(outside, 0o700); err != nil {
		t.Fatal(err)
	}
	folder := func(p string) TreeEntry { return TreeEntry{Path: p, Kind: Folder, Mode: 0o755} }
	link := func(p, to string) TreeEntry { return TreeEntry{Path: p, Kind: Symlink, Target: to} }
	with := func(e TreeEntry, edit func(*TreeEntry)) TreeEntry { edit(&e); return e }
	good := f.file("f", "good")

	for name, entries := range map[string][]TreeEntry{
		"parent":                  {f.file("../outside/f", "x")},
		"parent folder":           {folder("..")},
		"below a parent":          {folder("a"), f.file("a/../../outside/f", "x")},
		"absolute":                {f.file(outside+"/f", "x")},
		"dot":                     {folder(".")},
		"dot part":                {folder("a"), f.file("a/./f", "x")},
		"empty part":              {folder("a"), f.file("a//f", "x")},
		"empty path":              {f.file("", "x")},
		"trailing slash":          {folder("a/")},
		"NUL":                     {f.file("a\x00b", "x")},
		"decomposed":              {f.file("e\u0301", "x")},
		"endless path":            {f.file(strings.Repeat("a", maxPath+1), "x")},
		"twice":                   {good, good},
		"file and folder":         {f.file("a", "x"), folder("a")},
		"not sorted":              {f.file("b", "x"), f.file("a", "x")},
		"below a file":            {f.file("a", "x"), f.file("a/b", "x")},
		"below nothing":           {f.file("a/b", "x")},
		"through a symbolic link": {link("a", "."), f.file("a/f", "x")},
		"symbolic link out":       {link("a", "../outside")},
		"absolute symbolic link":  {link("a", outside)},
		"up through another":      {folder("d"), link("d/k", ".."), link("m", "d/k/../../outside")},
		"up after a name":         {link("m", "d/../..")},
		"symbolic link to itself, up": {
			folder("a"), link("a/l", "../../outside")},
		"empty target":           {link("a", "")},
		"NUL in target":          {link("a", "b\x00c")},
		"set-uid":                {with(good, func(e *TreeEntry) { e.Mode = 0o4755 })},
		"a device":               {with(good, func(e *TreeEntry) { e.Kind = "device" })},
		"no kind":                {with(good, func(e *TreeEntry) { e.Kind = "" })},
		"part of nothing":        {with(good, func(e *TreeEntry) { e.Kind = more })},
		"part of another":        {good, {Path: "g", Kind: more, Chunks: good.Chunks}},
		"a part too many":        {good, {Path: "f", Kind: more, Chunks: good.Chunks}},
		"negative size":          {with(good, func(e *TreeEntry) { e.Size = -1 })},
		"huge size":              {with(good, func(e *TreeEntry) { e.Size = 1<<63 - 1 })},
		"no chunks":              {with(good, func(e *TreeEntry) { e.Chunks = nil })},
		"null chunk":             {with(good, func(e *TreeEntry) { e.Chunks = []Link{{}} })},
		"short hash":             {with(good, func(e *TreeEntry) { e.Hash = e.Hash[:31] })},
		"other hash":             {with(good, func(e *TreeEntry) { e.Hash = make([]byte, 32) })},
		"other size":             {with(good, func(e *TreeEntry) { e.Size++ })},
		"file with target":       {with(good, func(e *TreeEntry) { e.Target = "x" })},
		"folder with content":    {with(folder("d"), func(e *TreeEntry) { e.Chunks = good.Chunks })},
		"folder with target":     {with(folder("d"), func(e *TreeEntry) { e.Target = "../x" })},
		"symbolic link, content": {with(link("l", "f"), func(e *TreeEntry) { e.Size = 1 })},
	} {
		t.Run(name, func(t *testing.T) {
			f.t = t
			var m *Manifest
			if name == "null chunk" {
				// The pin list can't hold it, so the tree stands beside another's.
				m = f.version([]TreeEntry{good}, func(batch *blob.Batch, m *Manifest) {
					m.Tree.Cid, _ = writeTree(batch, f.key, entries, map[cid.Cid]bool{})
				})
			} else {
				m = f.version(entries, nil)
			}
			f.refused(m, ErrBadTree)
		})
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("written outside: %v, %v", left, err)
	}
}

// refused checks that neither Export nor Verify accept m, and that Export
// leaves nothing behind.
func (f *forger) refused(m *Manifest, want error) {
	f.t.Helper()
	parent := f.t.TempDir()
	_, err := Export(f.t.Context(), f.blobs, f.owner, m, filepath.Join(parent, "out"))
	if !errors.Is(err, want) {
		f.t.Errorf("Export: %v, want %v", err, want)
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
		f.t.Errorf("left behind: %v, %v", left, err)
	}
	if _, err := Verify(f.t.Context(), f.blobs, f.owner, m); !errors.Is(err, want) {
		f.t.Errorf("Verify: %v, want %v", err, want)
	}
}

// Proves that a blob serves only as what it was sealed for, and only in its
// canonical form.
func TestHostileTreeBlobs(t *testing.T) {
	f := newForger(t)
	good := f.file("f", "good")
	tree := func(kind Kind, data []byte) func(*blob.Batch, *Manifest) {
		return func(batch *blob.Batch, m *Manifest) {
			pins := map[cid.Cid]bool{}
			m.Tree.Cid, _ = batch.Put(blob.Raw, f.key.Seal(kind, data))
			pins[m.Tree.Cid] = true
			m.Pins.Cid, _ = writePins(batch, pins)
		}
	}
	index, err := encode([]Link{good.Chunks[0]})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		edit func(*blob.Batch, *Manifest)
		want error
	}{
		"a page as index":   {tree(KindTreePage, []byte{0x80}), ErrSealed},
		"a chunk as page":   {tree(KindTreeIndex, index), ErrSealed},
		"a page twice":      {tree(KindTreeIndex, append([]byte{0x82}, append(slices.Clone(index[1:]), index[1:]...)...)), ErrBadTree},
		"no list":           {tree(KindTreeIndex, []byte{0xa0}), ErrBadTree},
		"indefinite length": {tree(KindTreeIndex, []byte{0x9f, 0xff}), ErrBadTree},
		"pins too few": {func(batch *blob.Batch, m *Manifest) {
			m.Pins.Cid, _ = writePins(batch, map[cid.Cid]bool{m.Tree.Cid: true})
		}, ErrBadPins},
		"pins are the tree's": {func(_ *blob.Batch, m *Manifest) { m.Pins = m.Tree }, ErrBadPins},
	} {
		m := f.version([]TreeEntry{good}, tc.edit)
		if !errors.Is(tc.want, ErrBadPins) {
			f.refused(m, tc.want)
		} else if _, err := Verify(t.Context(), f.blobs, f.owner, m); !errors.Is(err, tc.want) {
			t.Errorf("%s: Verify: %v", name, err)
		}
	}
}

// Proves that the entry of a file too large for one entry comes back whole, and
// that such entries still fit in blobs. 20,000 chunks are 20 GB; only the names
// of them are here.
func TestHugeFile(t *testing.T) {
	f := newForger(t)
	huge := TreeEntry{Path: "huge", Kind: File, Mode: 0o600, Size: 20_000 * blob.ChunkSize, Hash: make([]byte, 32)}
	for i := range 20_000 {
		huge.Chunks = append(huge.Chunks, Link{blob.Sum(blob.Raw, []byte{byte(i), byte(i >> 8)})})
	}
	want := []TreeEntry{f.file("a", "x"), huge, f.file("z", "x")}
	m := f.version(want, nil)
	got, err := readTree(f.blobs, f.key, m.Tree.Cid, map[cid.Cid]bool{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b Link) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	if all, err := Pins(f.blobs, m.Pins.Cid); err != nil || len(all) < 20_000 {
		t.Errorf("%d pins, %v", len(all), err)
	}
}

// Proves that nothing is written through a symbolic link even if a hostile tree
// got past the checks: this calls what comes after them.
func TestWriteStaysInside(t *testing.T) {
	f := newForger(t)
	outside := filepath.Join(f.dir, "outside")
	in := t.TempDir()
	if err := errors.Join(os.Mkdir(outside, 0o700), os.Symlink(outside, filepath.Join(in, "l"))); err != nil {
		t.Fatal(err)
	}
	for _, e := range []TreeEntry{f.file("l", "x"), f.file("l/f", "x"), f.file("../outside/f", "x"), {Path: "l/d", Kind: Folder, Mode: 0o700}} {
		if err := write(t.Context(), f.blobs, f.key, []TreeEntry{e}, in); err == nil {
			t.Errorf("%q was written", e.Path)
		}
	}
	left, err := os.ReadDir(outside)
	if err != nil || len(left) > 0 {
		t.Errorf("written outside: %v, %v", left, err)
	}
	if info, err := os.Lstat(filepath.Join(in, "l")); err != nil || info.Mode().Type() != fs.ModeSymlink {
		t.Error("the link was replaced", err)
	}
}

func TestHostilePinLists(t *testing.T) {
	link := func(s string) string { return "\xd8\x2a\x58\x25\x00" + string(blob.Sum(blob.Raw, []byte(s)).Bytes()) }
	a, b := link("a"), link("b")
	if a > b {
		a, b = b, a
	}
	good := "\x82" + a + b
	if got, err := addPins(nil, []byte(good)); err != nil || len(got) != 2 {
		t.Fatalf("the test spells lists wrong: %v, %v", got, err)
	}
	for name, page := range map[string]string{
		"empty":             "",
		"empty list":        "\x80",
		"no list":           "\xa0",
		"not sorted":        "\x82" + b + a,
		"twice":             "\x82" + a + a,
		"null":              "\x81\xf6",
		"bare bytes":        "\x81" + a[2:],
		"other tag":         "\x81\xd8\x2b" + a[2:],
		"no zero prefix":    "\x81\xd8\x2a\x58\x25\x01" + a[5:],
		"other hash":        "\x81" + strings.Replace(a, "\x1e\x20", "\x12\x20", 1),
		"claims a billion":  "\x9a\x40\x00\x00\x00" + a,
		"indefinite length": "\x9f" + a + b + "\xff",
		"long length":       "\x98\x02" + a + b,
		"trailing byte":     good + "\x00",
		"cut short":         good[:len(good)-1],
		"deeply nested":     strings.Repeat("\x81", 10_000),
		"over 2 MiB":        strings.Repeat("\x00", blob.MaxSize+1),
	} {
		if _, err := addPins(nil, []byte(page)); !errors.Is(err, ErrBadPins) {
			t.Errorf("addPins, %s: %v", name, err)
		}
		if name == "empty list" || name == "not sorted" {
			continue // the index of no pages is one; pages stand in the order of what they hold
		}
		if _, err := PinPages([]byte(page)); !errors.Is(err, ErrBadPins) {
			t.Errorf("PinPages, %s: %v", name, err)
		}
	}
}
