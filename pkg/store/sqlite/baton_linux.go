package sqlite

import (
	"math/rand/v2"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// baton passes SQLite's write lock on from process to process. Who waits for that
// lock is told nothing when it falls free, and there is no queue: between two
// transactions all of a fleet would sleep. With it, who lets go of the lock wakes
// the process that waits longest.
//
// It is a futex(2) on the first page of the seats' file, of which only the kernel
// ever looks at a byte: a file that somebody has cut short does no harm. No promise
// depends on it. A waiter that nobody wakes, as whoever held the lock has died or
// is no Shoal, looks again by itself.
type baton struct{ page []byte }

// batonSize is how much of the file is mapped.
const batonSize = 4096

// What futex(2) calls FUTEX_WAIT and FUTEX_WAKE.
const (
	futexWait = 0
	futexWake = 1
)

func newBaton(seats *seatFile) (baton, error) {
	if seats.info.Size() < batonSize {
		if err := seats.file.Truncate(batonSize); err != nil { // longer: nobody has it longer than this
			return baton{}, os.NewSyscallError("ftruncate", err)
		}
	}
	page, err := unix.Mmap(int(seats.file.Fd()), 0, batonSize, unix.PROT_READ, unix.MAP_SHARED)
	return baton{page}, os.NewSyscallError("mmap", err)
}

func (b baton) close() error {
	if b.page == nil {
		return nil
	}
	return unix.Munmap(b.page)
}

// wait returns when the baton is passed to this process, at the latest after most.
func (b baton) wait(most time.Duration) {
	timeout := unix.NsecToTimespec(most.Nanoseconds())
	_, _, errno := unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&b.page[0])), futexWait, 0, uintptr(unsafe.Pointer(&timeout)), 0, 0)
	switch errno {
	case 0, unix.ETIMEDOUT, unix.EINTR:
	default: // the file was written to, or cut
		time.Sleep(time.Duration(rand.Int64N(int64(time.Millisecond))))
	}
}

// pass wakes the process that waits longest, if one does.
func (b baton) pass() {
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&b.page[0])), futexWake, 1, 0, 0, 0)
}
