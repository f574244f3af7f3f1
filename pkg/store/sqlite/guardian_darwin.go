package sqlite

import (
	"errors"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// fileSystemOf trusts what the kernel calls local, except for file systems in
// user space, which like to call themselves so.
func fileSystemOf(dir string) (fileSystem, error) {
	st, err := statfs(dir)
	if err != nil {
		return fileSystem{}, err
	}
	name := unix.ByteSliceToString(st.Fstypename[:])
	remote := st.Flags&unix.MNT_LOCAL == 0
	return fileSystem{name: name, untrusted: remote || strings.Contains(name, "fuse")}, nil
}

// mountPoint returns the first of the paths that has something mounted on it;
// empty if none has.
func mountPoint(paths ...string) (string, error) {
	for _, path := range paths {
		st, err := statfs(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		if unix.ByteSliceToString(st.Mntonname[:]) == path {
			return path, nil
		}
	}
	return "", nil
}

// foreignLocks sees nothing: the kernel doesn't tell a process its own locks.
func foreignLocks(string) error { return nil }
