package blob

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncAll makes files and folders durable by one flush of their file system,
// whatever their number. dir must have been opened before they were written:
// syncfs(2) reports the write errors since then (Linux 5.8). Being no list, it
// also covers what another process renamed and we found present.
func syncAll(dir *os.File, _ []string) error {
	for {
		err := unix.Syncfs(int(dir.Fd()))
		if err != unix.EINTR {
			return os.NewSyscallError("syncfs", err)
		}
	}
}
