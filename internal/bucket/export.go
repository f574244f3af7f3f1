package bucket

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/ipfs/go-cid"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"lukechampine.com/blake3"

	"github.com/shoal-project/shoal/internal/blob"
)

// Export writes the files of version m to dir, which must be absent or empty.
// It writes to a folder beside dir and renames that at the end: dir is all of
// the version or untouched. ErrNoKey for who can't read the bucket; ErrBadTree,
// ErrSealed, or package blob's errors where the content is not whole.
//
// Files get back content, mode and time of change, folders their mode. The
// export is not flushed to the disk.
func Export(ctx context.Context, blobs *blob.Store, identity ed25519.PrivateKey, m *Manifest, dir string) (Stats, error) {
	key, err := m.KeyFor(identity)
	if err != nil {
		return Stats{}, err
	}
	entries, err := readTree(blobs, key, m.Tree.Cid, map[cid.Cid]bool{})
	if err != nil {
		return Stats{}, err
	}
	tmp, err := beside(dir)
	if err != nil {
		return Stats{}, fmt.Errorf("export: %w", err)
	}
	err = write(ctx, blobs, key, entries, tmp)
	if err == nil {
		err = unix.Rename(tmp, dir) // os.Rename would not replace an empty folder
	}
	if err != nil {
		os.RemoveAll(tmp)
		return Stats{}, fmt.Errorf("export: %w", err)
	}
	return statsOf(entries), nil
}

// beside makes the folder that will take dir's place, with its mode.
func beside(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	there, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if len(there) > 0 {
		return "", fmt.Errorf("%s is not empty; name a new or an empty folder", dir)
	}
	tmp := filepath.Join(filepath.Dir(dir), ".export-"+rand.Text())
	err = os.Mkdir(tmp, 0o777) // less the umask, as for any new folder
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("the folder %s is not there; create it", filepath.Dir(dir))
	}
	if err != nil {
		return "", err
	}
	if info, err := os.Stat(dir); err == nil {
		if err := os.Chmod(tmp, info.Mode().Perm()|0o700); err != nil {
			return "", err
		}
	}
	return tmp, nil
}

// write fills the empty folder dir. The tree was checked, and yet nothing here
// trusts it: os.Root does not leave dir, an existing name is never opened, and
// symbolic links come when all the files are there.
func write(ctx context.Context, blobs *blob.Store, key Key, entries []TreeEntry, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, e := range entries {
		if e.Kind == Folder {
			if err := root.Mkdir(e.Path, 0o700); err != nil {
				return err
			}
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, e := range entries {
		if e.Kind == File {
			g.Go(func() error { return writeFile(ctx, blobs, key, e, root) })
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	// From the leaves up, as a mode may forbid to go on below it.
	for _, e := range slices.Backward(entries) {
		switch e.Kind {
		case Symlink:
			err = root.Symlink(e.Target, e.Path)
		case Folder:
			err = root.Chmod(e.Path, fs.FileMode(e.Mode))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func writeFile(ctx context.Context, blobs *blob.Store, key Key, e TreeEntry, root *os.Root) error {
	f, err := root.OpenFile(e.Path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = copyFile(ctx, f, blobs, key, e)
	if err == nil {
		err = f.Chmod(fs.FileMode(e.Mode))
	}
	if closing := f.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return err
	}
	mtime := time.Unix(0, e.MTime)
	return root.Chtimes(e.Path, mtime, mtime)
}

// copyFile writes the content of a file to w and checks that it is the one that
// the entry promises.
func copyFile(ctx context.Context, w io.Writer, blobs *blob.Store, key Key, e TreeEntry) error {
	whole := blake3.New(32, nil)
	left := e.Size
	for _, c := range e.Chunks {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		sealed, err := blobs.Get(c.Cid)
		if err != nil {
			return fmt.Errorf("%q: %w", e.Path, err)
		}
		plain, err := key.Open(KindChunk, sealed)
		if err != nil {
			return fmt.Errorf("%q: %s: %w", e.Path, c, err)
		}
		if int64(len(plain)) != min(left, blob.ChunkSize) {
			return fmt.Errorf("%w: %q: a chunk of %d bytes", ErrBadTree, e.Path, len(plain))
		}
		left -= int64(len(plain))
		whole.Write(plain)
		if _, err := w.Write(plain); err != nil {
			return err
		}
	}
	if !bytes.Equal(whole.Sum(nil), e.Hash) {
		return fmt.Errorf("%w: %q: the content has another hash", ErrBadTree, e.Path)
	}
	return nil
}
