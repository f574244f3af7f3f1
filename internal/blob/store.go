package blob

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/ipfs/go-cid"
)

// Store is the blobs of one folder. Its methods may be called from any number
// of goroutines and processes.
type Store struct {
	dir   string
	sweep sync.Once
}

// Open returns the store in dir. Nothing is made until the first write.
func Open(dir string) *Store { return &Store{dir: dir} }

// shard is the folder of a blob: the next-to-last two characters spread evenly,
// which the first ones, the same in every CID, do not.
func (s *Store) shard(c cid.Cid) string {
	name := c.String()
	return filepath.Join(s.dir, name[len(name)-3:len(name)-1])
}

// path expects a CID that passed Check: a file's name comes from nothing else.
func (s *Store) path(c cid.Cid) string { return filepath.Join(s.shard(c), c.String()) }

// Has says whether the blob is present. It does not read it.
func (s *Store) Has(c cid.Cid) bool {
	if Check(c) != nil {
		return false
	}
	_, err := os.Lstat(s.path(c))
	return err == nil
}

// Get returns the blob, verified. One that does not match its name is renamed
// to NAME.corrupt, so that it can be fetched again, and is ErrCorrupt; one that
// is not there is ErrNotFound.
func (s *Store) Get(c cid.Cid) ([]byte, error) {
	if err := Check(c); err != nil {
		return nil, err
	}
	f, err := os.Open(s.path(c))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, c)
	}
	if err != nil {
		return nil, fmt.Errorf("open blob: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open blob: %w", err)
	}
	if info.Size() > MaxSize {
		return nil, s.setAside(c)
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, fmt.Errorf("read blob %s: %w", c, err)
	}
	if !Sum(c.Type(), data).Equals(c) {
		return nil, s.setAside(c)
	}
	return data, nil
}

func (s *Store) setAside(c cid.Cid) error {
	p := s.path(c)
	if err := os.Rename(p, p+".corrupt"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s (and it can't be set aside: %v)", ErrCorrupt, c, err)
	}
	return fmt.Errorf("%w: %s", ErrCorrupt, c)
}
