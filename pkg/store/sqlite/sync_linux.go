package sqlite

import "golang.org/x/sys/unix"

// dropCache throws a file's clean pages from at on out of the kernel's cache, but for
// one that begins before. It can't fail for a file on a disk.
func dropCache(fd uintptr, at int64) { _ = unix.Fadvise(int(fd), at, 0, unix.FADV_DONTNEED) }
