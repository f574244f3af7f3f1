package sqlite

import (
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sleepers are those who wait for the baton, in the order in which they came: a
// futex(2) on the file's first page. Only the kernel ever looks at the page, so
// that a file which somebody has cut short does no harm.
type sleepers struct{ page []byte }

// sleepersSize is how much of the file is mapped.
const sleepersSize = 4096

// What futex(2) calls FUTEX_WAIT and FUTEX_WAKE.
const (
	futexWait = 0
	futexWake = 1
)

func newSleepers(file *os.File) (sleepers, error) {
	page, err := unix.Mmap(int(file.Fd()), 0, sleepersSize, unix.PROT_READ, unix.MAP_SHARED)
	return sleepers{page}, os.NewSyscallError("mmap", err)
}

// sleep returns when this process is woken, or after most, or at once where the
// file does not begin with count.
func (s sleepers) sleep(count uint32, most time.Duration) {
	timeout := unix.NsecToTimespec(most.Nanoseconds())
	_, _, errno := unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&s.page[0])), futexWait, uintptr(count), uintptr(unsafe.Pointer(&timeout)), 0, 0)
	switch errno {
	case 0, unix.ETIMEDOUT, unix.EINTR, unix.EAGAIN:
	default: // somebody has cut the file just now
		time.Sleep(time.Millisecond)
	}
}

// wake wakes the process that sleeps longest, if one does.
func (s sleepers) wake() bool {
	n, _, errno := unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&s.page[0])), futexWake, 1, 0, 0, 0)
	return errno == 0 && n > 0
}

func (s sleepers) close() error {
	if s.page == nil {
		return nil
	}
	return unix.Munmap(s.page)
}
