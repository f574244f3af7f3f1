//go:build linux

package sqlite

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"
)

// TestBatonRefused proves that a process which was woken for the baton, and does not
// want it any more, wakes the next one.
func TestBatonRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jobs.db")
	holder, first, second := openBaton(t, path), openBaton(t, path), openBaton(t, path)
	holder.take(always)
	var wants atomic.Bool
	wants.Store(true)
	refused, taken := make(chan struct{}), make(chan struct{})
	go func() { defer close(refused); first.take(wants.Load) }()
	asleep(t, first)
	go func() { defer close(taken); second.take(always) }()
	asleep(t, second)
	wants.Store(false)
	holder.pass()
	<-refused
	if first.held {
		t.Error("who did not want the baton has it")
	}
	if holder.wake() {
		t.Error("the baton is free, and the next one sleeps")
	}
	<-taken
	second.pass()
}

// asleep returns when somebody sleeps for the baton.
func asleep(t *testing.T, b *baton) {
	t.Helper()
	at := fmt.Sprintf(" 0x%x ", uintptr(unsafe.Pointer(&b.page[0])))
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		threads, err := filepath.Glob("/proc/self/task/*/syscall")
		if err != nil {
			t.Fatal(err)
		}
		for _, thread := range threads {
			if what, err := os.ReadFile(thread); err == nil && strings.Contains(string(what), at) {
				return
			}
		}
	}
	t.Fatal("nobody sleeps")
}
