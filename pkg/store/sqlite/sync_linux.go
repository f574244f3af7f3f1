package sqlite

import "golang.org/x/sys/unix"

// dropCache throws a file's clean pages out of the kernel's cache. It can't fail
// for a file on a disk.
func dropCache(fd uintptr) { _ = unix.Fadvise(int(fd), 0, 0, unix.FADV_DONTNEED) }
