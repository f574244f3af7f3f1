package bucket

import (
	"errors"
	"fmt"
	"path"

	"github.com/ipfs/go-cid"

	"github.com/shoal-project/shoal/internal/blob"
)

// EntryKind says what stands at a path of the tree.
type EntryKind string

// The kinds of entries. What a file's entry has no room for follows in entries
// of kind more, with the same path.
const (
	File    EntryKind = "file"
	Folder  EntryKind = "folder"
	Symlink EntryKind = "symlink"
	more    EntryKind = "more"
)

// maxPart is how many chunks one entry names: 8 GiB of a file. An entry has to
// fit in a page, and a page in a blob.
const maxPart = 8192

// TreeEntry is one file, folder or symbolic link of a version.
type TreeEntry struct {
	Path   string    `cbor:"path"` // relative, /-separated, NFC
	Kind   EntryKind `cbor:"kind"`
	Mode   uint32    `cbor:"mode"`             // permission bits of a file or folder
	Size   int64     `cbor:"size"`             // of a file, in bytes
	MTime  int64     `cbor:"mtime"`            // of a file, in nanoseconds since 1970
	Hash   []byte    `cbor:"hash,omitempty"`   // of a file: BLAKE3-256
	Chunks []Link    `cbor:"chunks,omitempty"` // of a file: sealed, ChunkSize each but the last
	Target string    `cbor:"target,omitempty"` // of a symbolic link
}

// writeTree puts the entries, sorted by path, into the batch as sealed pages
// and returns the index's link. It adds every blob of the version to pins.
func writeTree(batch *blob.Batch, key Key, entries []TreeEntry, pins map[cid.Cid]bool) (cid.Cid, error) {
	p := pager{put: func(data []byte, index bool) (cid.Cid, error) {
		kind := KindTreePage
		if index {
			kind = KindTreeIndex
		}
		c, err := batch.Put(blob.Raw, key.Seal(kind, data))
		pins[c] = true
		return c, err
	}}
	for _, e := range entries {
		for _, c := range e.Chunks {
			pins[c.Cid] = true
		}
		rest := e.Chunks
		for part := e; ; part = (TreeEntry{Path: e.Path, Kind: more}) {
			part.Chunks = rest[:min(maxPart, len(rest))]
			rest = rest[len(part.Chunks):]
			if err := p.add(e.Path, part); err != nil {
				return cid.Undef, fmt.Errorf("write tree: %w", err)
			}
			if len(rest) == 0 {
				break
			}
		}
	}
	c, err := p.finish()
	if err != nil {
		return cid.Undef, fmt.Errorf("write tree: %w", err)
	}
	return c, nil
}

// readTree returns the entries of a tree, checked: ErrBadTree, ErrSealed, or
// package blob's ErrNotFound or ErrCorrupt. It adds every blob that the tree
// names, and its own, to pins.
func readTree(blobs *blob.Store, key Key, link cid.Cid, pins map[cid.Cid]bool) ([]TreeEntry, error) {
	open := func(kind Kind, c cid.Cid) ([]byte, error) {
		sealed, err := blobs.Get(c)
		if err != nil {
			return nil, err
		}
		pins[c] = true
		return key.Open(kind, sealed)
	}
	index, err := open(KindTreeIndex, link)
	if err != nil {
		return nil, fmt.Errorf("read tree: %w", err)
	}
	pages, err := pagesOf(index)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadTree, err)
	}
	var entries []TreeEntry
	for _, c := range pages {
		data, err := open(KindTreePage, c)
		if err != nil {
			return nil, fmt.Errorf("read tree: %w", err)
		}
		var page []TreeEntry
		if err := decode(data, &page); err != nil {
			return nil, fmt.Errorf("%w: page %s: %w", ErrBadTree, c, err)
		}
		if entries, err = join(entries, page); err != nil {
			return nil, err
		}
	}
	for _, e := range entries {
		for _, c := range e.Chunks {
			pins[c.Cid] = true
		}
	}
	return entries, checkTree(entries)
}

// join appends the entries of a page and puts the parts of a file together.
func join(entries, page []TreeEntry) ([]TreeEntry, error) {
	for _, e := range page {
		if e.Kind != more {
			entries = append(entries, e)
			continue
		}
		last := len(entries) - 1
		if last < 0 || entries[last].Path != e.Path || entries[last].Kind != File {
			return nil, fmt.Errorf("%w: %q: a part of no file", ErrBadTree, e.Path)
		}
		entries[last].Chunks = append(entries[last].Chunks, e.Chunks...)
	}
	return entries, nil
}

// checkTree refuses entries that are no tree: each path once and in order, each
// in a folder that came before it.
func checkTree(entries []TreeEntry) error {
	folders := map[string]bool{".": true}
	for i, e := range entries {
		err := e.check()
		switch {
		case err != nil:
		case i > 0 && entries[i-1].Path >= e.Path:
			err = fmt.Errorf("out of order after %q", entries[i-1].Path)
		case !folders[path.Dir(e.Path)]:
			err = errors.New("not in a folder of the tree")
		}
		if err != nil {
			return fmt.Errorf("%w: %q: %w", ErrBadTree, e.Path, err)
		}
		if e.Kind == Folder {
			folders[e.Path] = true
		}
	}
	return nil
}

// check refuses an entry that is wrong by itself.
func (e *TreeEntry) check() error {
	if err := checkPath(e.Path); err != nil {
		return err
	}
	if e.Mode > 0o777 {
		return fmt.Errorf("mode %o", e.Mode)
	}
	switch e.Kind {
	case File:
		// Without overflow, whatever size says.
		chunks := e.Size / blob.ChunkSize
		if e.Size%blob.ChunkSize != 0 {
			chunks++
		}
		if e.Size < 0 || chunks != int64(len(e.Chunks)) || len(e.Hash) != 32 || e.Target != "" {
			return fmt.Errorf("a file of %d bytes in %d chunks", e.Size, len(e.Chunks))
		}
		for _, c := range e.Chunks {
			if !c.Defined() {
				return errors.New("a chunk without link")
			}
		}
		return nil
	case Folder, Symlink:
		if e.Size != 0 || e.MTime != 0 || len(e.Hash) != 0 || len(e.Chunks) != 0 {
			return fmt.Errorf("a %s with content", e.Kind)
		}
		if e.Kind == Folder && e.Target == "" {
			return nil
		}
		return checkTarget(e.Path, e.Target)
	}
	return fmt.Errorf("kind %q", e.Kind)
}

func statsOf(entries []TreeEntry) (s Stats) {
	for _, e := range entries {
		switch e.Kind {
		case File:
			s.Files++
			s.Bytes += e.Size
		case Folder:
			s.Folders++
		case Symlink:
			s.Symlinks++
		}
	}
	return s
}
