package sqlite

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// bootID names the running kernel's boot: lease times of another one mean
// nothing, and none of its processes lives.
func bootID() (string, error) {
	id, err := unix.Sysctl("kern.bootsessionuuid")
	if err != nil {
		return "", fmt.Errorf("identify the running kernel: %w", err)
	}
	return id, nil
}
