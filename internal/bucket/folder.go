package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"
	"lukechampine.com/blake3"

	"github.com/shoal-project/shoal/internal/blob"
)

// readTries is how often a file is read that changes meanwhile.
const readTries = 3

var errChanging = errors.New("changes while it is read; commit again when it is at rest")

// folder reads what is to be committed.
type folder struct {
	root  *os.Root
	key   Key
	batch *blob.Batch
}

// readFolder puts the chunks of all files below dir, sealed, into the batch and
// returns the entries of the tree. It stays in dir whatever is exchanged for a
// symbolic link meanwhile. What can't be committed is ErrUnfit and named.
func readFolder(ctx context.Context, dir string, key Key, batch *blob.Batch) ([]TreeEntry, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnfit, err)
	}
	defer root.Close()
	f := &folder{root: root, key: key, batch: batch}

	entries, err := f.walk(ctx)
	if err != nil {
		return nil, err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range entries {
		if e := &entries[i]; e.Kind == File {
			g.Go(func() error { return f.file(ctx, e) })
		}
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return entries, checkTree(entries)
}

// walk lists the folder, sorted by path. Everything that can be refused without
// reading files is refused here, before the work of reading them.
func (f *folder) walk(ctx context.Context) ([]TreeEntry, error) {
	var entries []TreeEntry
	err := fs.WalkDir(f.root.FS(), ".", func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return unfit(p, err)
		}
		if p == "." {
			return context.Cause(ctx)
		}
		if err := checkPath(p); err != nil {
			return unfit(p, err)
		}
		info, err := f.root.Lstat(p)
		if err != nil {
			return unfit(p, err)
		}
		e := TreeEntry{Path: p}
		switch mode := info.Mode(); {
		case mode.IsRegular():
			e.Kind = File
		case mode.IsDir():
			e.Kind, e.Mode = Folder, uint32(mode.Perm())
		case mode.Type() == fs.ModeSymlink:
			e.Kind = Symlink
			if e.Target, err = f.root.Readlink(p); err == nil {
				err = checkTarget(p, e.Target)
			}
			if err != nil {
				return unfit(p, err)
			}
		default:
			return unfit(p, fmt.Errorf("%s: only files, folders and symbolic links can be", special(mode)))
		}
		entries = append(entries, e)
		return context.Cause(ctx)
	})
	slices.SortFunc(entries, func(a, b TreeEntry) int { return strings.Compare(a.Path, b.Path) })
	return entries, err
}

// file reads a file into the batch and fills in its entry.
func (f *folder) file(ctx context.Context, e *TreeEntry) error {
	for range readTries {
		err := f.readFile(ctx, e)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if !errors.Is(err, errChanging) {
			return unfit(e.Path, err)
		}
	}
	return unfit(e.Path, errChanging)
}

func (f *folder) readFile(ctx context.Context, e *TreeEntry) error {
	// Not blocking, should it have become a FIFO since the walk.
	file, err := f.root.OpenFile(e.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	before, err := file.Stat()
	if err != nil {
		return err
	}
	if !before.Mode().IsRegular() {
		return errChanging
	}
	size := before.Size()
	e.Mode, e.Size, e.MTime = uint32(before.Mode().Perm()), size, before.ModTime().UnixNano()
	e.Chunks = nil

	whole := blake3.New(32, nil)
	buf := make([]byte, max(1, min(size, blob.ChunkSize)))
	var read int64
	for read <= size { // or it grows
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n, err := io.ReadFull(file, buf)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return err
		}
		read += int64(n)
		whole.Write(buf[:n])
		c, err := f.batch.Put(blob.Raw, f.key.Seal(KindChunk, buf[:n]))
		if err != nil {
			return err
		}
		e.Chunks = append(e.Chunks, Link{c})
	}
	e.Hash = whole.Sum(nil)

	after, err := file.Stat()
	if err != nil {
		return err
	}
	if read != size || after.Size() != size || !after.ModTime().Equal(before.ModTime()) {
		return errChanging
	}
	return nil
}

// unfit is the one line about a path that can't be committed.
func unfit(p string, err error) error {
	if inner, ok := errors.AsType[*fs.PathError](err); ok {
		err = inner.Err // it would name the path once more
	}
	return fmt.Errorf("%w: %q: %w", ErrUnfit, p, err)
}

func special(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeSocket != 0:
		return "a socket"
	case mode&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case mode&fs.ModeDevice != 0:
		return "a device"
	}
	return "a special file"
}
