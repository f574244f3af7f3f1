package blob

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"github.com/ipfs/go-cid"
	"lukechampine.com/blake3"
)

// Batch writes blobs that become visible together. They share one flush to the
// disk, which makes ten thousand small ones a matter of a second. Its methods
// may be called from any number of goroutines.
//
//	b := store.NewBatch()
//	defer b.Discard()
//	… b.Put(…) … b.Receive(…) …
//	err := b.Commit()
type Batch struct {
	store *Store

	mu     sync.Mutex
	tmp    *os.File           // the batch's own folder, locked; nil until the first write
	serial int                // names the next temporary file
	staged map[cid.Cid]string // blobs written but not visible yet, and their files
	added  Added
}

// Added is what a batch wrote: blobs that were not there before, and their
// bytes.
type Added struct {
	Blobs int
	Bytes int64
}

// NewBatch returns an empty batch. It costs nothing until something is written.
func (s *Store) NewBatch() *Batch {
	return &Batch{store: s, staged: map[cid.Cid]string{}}
}

// Put adds data as a blob and returns its CID. A blob that is already there,
// in the store or the batch, is not written again. ErrTooLarge above MaxSize.
func (b *Batch) Put(codec uint64, data []byte) (cid.Cid, error) {
	if len(data) > MaxSize {
		return cid.Undef, ErrTooLarge
	}
	c := Sum(codec, data)
	_, err := b.add(c, func(w io.Writer) (int64, error) {
		n, err := w.Write(data)
		return int64(n), err
	})
	return c, err
}

// Receive adds the blob c as it streams from r, hashing it on the way, and
// returns how many bytes it read. Of a blob that is already there it reads
// nothing. Content that hashes to something else is ErrMismatch, more than
// MaxSize is ErrTooLarge, and nothing of either is kept. It ends when r does:
// a timeout is r's.
func (b *Batch) Receive(c cid.Cid, r io.Reader) (int64, error) {
	return b.add(c, func(w io.Writer) (int64, error) {
		h := blake3.New(32, nil)
		n, err := io.Copy(io.MultiWriter(w, h), io.LimitReader(r, MaxSize+1))
		switch {
		case err != nil:
			return n, err
		case n > MaxSize:
			return n, ErrTooLarge
		case !sumCID(c.Type(), [32]byte(h.Sum(nil))).Equals(c):
			return n, ErrMismatch
		}
		return n, nil
	})
}

// add has fill write the blob c, unless it is already there.
func (b *Batch) add(c cid.Cid, fill func(io.Writer) (int64, error)) (int64, error) {
	if err := Check(c); err != nil {
		return 0, err
	}
	if b.has(c) || b.store.Has(c) {
		return 0, nil
	}
	f, err := b.create()
	if err != nil {
		return 0, fmt.Errorf("write blob: %w", err)
	}
	n, err := fill(f)
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err != nil {
		os.Remove(f.Name())
		return n, fmt.Errorf("write blob %s: %w", c, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, twin := b.staged[c]; twin {
		os.Remove(f.Name()) // somebody was faster
		return n, nil
	}
	b.staged[c] = f.Name()
	b.added.Blobs++
	b.added.Bytes += n
	return n, nil
}

func (b *Batch) has(c cid.Cid) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, ok := b.staged[c]
	return ok
}

func (b *Batch) create() (*os.File, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tmp == nil {
		tmp, err := b.store.makeTemp()
		if err != nil {
			return nil, err
		}
		b.tmp = tmp
	}
	b.serial++
	name := filepath.Join(b.tmp.Name(), strconv.Itoa(b.serial))
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// Commit makes everything put so far durable and then visible; the batch is
// empty afterwards and can be filled again. A Receive that is still under way
// belongs to the next Commit. After an error some blobs may be visible, all of
// them whole, and the others are gone.
func (b *Batch) Commit() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.staged) == 0 {
		return nil
	}
	staged := b.staged
	b.staged = map[cid.Cid]string{}
	defer func() {
		for _, file := range staged {
			os.Remove(file) // renamed ones are not there any more
		}
	}()

	// The content first: a name must never stand for what is not on the disk.
	if err := syncAll(b.tmp, slices.Collect(maps.Values(staged))); err != nil {
		return fmt.Errorf("commit blobs: %w", err)
	}
	folders := map[string]bool{b.store.dir: true, filepath.Dir(b.store.dir): true}
	for c, file := range staged {
		shard := b.store.shard(c)
		if !folders[shard] {
			if err := os.MkdirAll(shard, 0o700); err != nil {
				return fmt.Errorf("commit blobs: %w", err)
			}
			folders[shard] = true
		}
		if err := os.Rename(file, b.store.path(c)); err != nil {
			return fmt.Errorf("commit blobs: %w", err)
		}
	}
	if err := syncAll(b.tmp, slices.Collect(maps.Keys(folders))); err != nil {
		return fmt.Errorf("commit blobs: %w", err)
	}
	return nil
}

// Added returns what was written since NewBatch, committed or not.
func (b *Batch) Added() Added {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.added
}

// Discard drops what was not committed. It is to be called once the batch is
// not needed any more, after a Commit too.
func (b *Batch) Discard() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tmp == nil {
		return
	}
	os.RemoveAll(b.tmp.Name())
	b.tmp.Close()
	b.tmp = nil
	b.staged = map[cid.Cid]string{}
}
