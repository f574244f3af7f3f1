package sqlite

import (
	"fmt"
	"os"
	"strings"
)

// bootID names the running kernel's boot: lease times of another one mean
// nothing, and none of its processes lives.
func bootID() (string, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("identify the running kernel: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}
