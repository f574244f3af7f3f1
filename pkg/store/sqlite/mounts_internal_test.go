//go:build linux

package sqlite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The numbers as linux/magic.h and stat(1) have them, and what a database on
// each of them gets. CIFS's comes sign-extended on a 32-bit machine.
func TestFileSystems(t *testing.T) {
	untrusted := []uint32{
		0x6969, 0x517b, 0xff534d42, 0xfe534d42, 0x01021997, 0x65735546, 0x5346414f, 0x6b414653, 0x00c36400,
		0x73757245, 0x564c, 0x7461636f, 0x00c0ffee, 0x01161970, 0x786f4256, 0x20030528, 0x0bd00bd0, 0x47504653,
		0x19830326, 0xaad7aaea, 0xbeefdead, 0x61636673, 0x013111a8, 0xbacbacbc, 0x7c7c6673,
	}
	warned := []uint32{0x01021994, 0x858458f6, 0x794c7630}
	fine := []uint32{0xef53, 0x58465342, 0x9123683e, 0xf2f52010, 0x2fc12fc1, 0xca451a4e} // ext4 xfs btrfs f2fs zfs bcachefs
	for _, magic := range untrusted {
		if s := fileSystems[magic]; !s.untrusted || s.name == "" {
			t.Errorf("%#x: %+v, want it untrusted", magic, s)
		}
	}
	for _, magic := range warned {
		if s := fileSystems[magic]; s.untrusted || s.name == "" || s.warning == "" {
			t.Errorf("%#x: %+v, want a warning", magic, s)
		}
	}
	for _, magic := range fine {
		if s, ok := fileSystems[magic]; ok {
			t.Errorf("%#x: %+v, want nothing", magic, s)
		}
	}
	if n := len(untrusted) + len(warned); n != len(fileSystems) {
		t.Errorf("the table has %d entries, the test knows %d", len(fileSystems), n)
	}
}

// Memory and a container's own layer work, with a warning.
func TestInspectWarns(t *testing.T) {
	for _, name := range []string{"tmpfs", "ramfs"} {
		t.Run(name, func(t *testing.T) {
			dir := realDir(t)
			mount(t, "none", dir, name, 0, "")
			wantWarning(t, filepath.Join(dir, "shoal.db"), "is on "+name, "lost at reboot")
		})
	}
	t.Run("overlayfs", func(t *testing.T) {
		top := realDir(t)
		for _, dir := range []string{"lower", "upper", "work", "merged"} {
			if err := os.Mkdir(filepath.Join(top, dir), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		mustExec(t, testConn(t, filepath.Join(top, "lower/shoal.db")), "CREATE TABLE t (x)")
		merged := filepath.Join(top, "merged")
		mount(t, "overlay", merged, "overlay", 0, fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", top))
		db := filepath.Join(merged, "shoal.db")
		wantWarning(t, db, "is on overlayfs", "put it on a volume")

		// The file of the image, copied up by inspect, keeps its identity, and
		// who locks it is found.
		id, err := identify(db)
		if err != nil {
			t.Fatal(err)
		}
		mustExec(t, testConn(t, db), "PRAGMA journal_mode=WAL; BEGIN IMMEDIATE; INSERT INTO t VALUES (1)")
		if err := id.still(db); err != nil {
			t.Error(err)
		}
		wantHolder(t, openShm(t, db), holder{PID: os.Getpid(), Name: comm(os.Args[0])})
	})
}

// A database, or one of the files beside it, that is mounted by itself is
// refused, also under a name that mountinfo has to escape.
func TestInspectRefusesAMountedFile(t *testing.T) {
	for _, suffix := range []string{"", "-wal", "-shm", "-workers"} {
		dir := filepath.Join(realDir(t), "a b\tc\\d\ne")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		db := filepath.Join(dir, "shoal.db")
		writeFile(t, db+suffix, "", 0o600)
		source := filepath.Join(realDir(t), "elsewhere")
		writeFile(t, source, "", 0o600)
		mount(t, source, db+suffix, "", unix.MS_BIND, "")
		// The name has a line end of its own, so wantRefused is of no use.
		if _, err := inspect(db); err == nil || !strings.Contains(err.Error(), db+suffix+" is a mount point") {
			t.Errorf("inspect(%q) = %v, want a refusal", db, err)
		}
	}
}

// A folder that is a mount point is fine; one that is read-only is not.
func TestInspectMountedFolder(t *testing.T) {
	source, dir := realDir(t), realDir(t)
	mount(t, source, dir, "", unix.MS_BIND, "")
	db := filepath.Join(dir, "shoal.db")
	if _, err := inspect(db); err != nil {
		t.Error(err)
	}
	if err := unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	_, err := inspect(db)
	wantRefused(t, err, db, "read-only file system")
}

func TestInspectRefusesFUSE(t *testing.T) {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("NOT TESTED, there is no FUSE here: /dev/fuse: %v", err)
	}
	dir := realDir(t)
	mount(t, "shoal-test", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd))
	served := make(chan error)
	go func() { served <- serveFUSE(fd) }()

	db := filepath.Join(dir, "shoal.db")
	_, err = inspect(db)
	wantRefused(t, err, db, "put it on a local disk")

	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// serveFUSE answers what the kernel asks before it can tell about an empty
// file system (linux/fuse.h), until that is unmounted.
func serveFUSE(fd int) error {
	defer unix.Close(fd)
	const opInit, opStatfs = 26, 17
	request := make([]byte, 1<<17)
	for {
		n, err := unix.Read(fd, request)
		if errors.Is(err, unix.ENODEV) {
			return nil
		}
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if n < 40 {
			return fmt.Errorf("request of %d bytes", n)
		}
		var body []byte
		errno := unix.ENOSYS
		switch binary.NativeEndian.Uint32(request[4:]) {
		case opInit: // fuse_init_out: protocol 7.31
			body, errno = make([]byte, 64), 0
			binary.NativeEndian.PutUint32(body[0:], 7)
			binary.NativeEndian.PutUint32(body[4:], 31)
			binary.NativeEndian.PutUint32(body[20:], 4096) // max_write
		case opStatfs: // fuse_statfs_out
			body, errno = make([]byte, 80), 0
		}
		reply := binary.NativeEndian.AppendUint32(nil, uint32(16+len(body)))
		reply = binary.NativeEndian.AppendUint32(reply, uint32(-int32(errno)))
		reply = append(reply, request[8:16]...) // whose answer this is
		if _, err := unix.Write(fd, append(reply, body...)); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
}

// mount mounts until the end of the test, which is skipped where that is not
// allowed.
func mount(t *testing.T, source, target, kind string, flags uintptr, data string) {
	t.Helper()
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		t.Skipf("NOT TESTED, mounting %s %s needs root, CAP_SYS_ADMIN and a kernel that knows it: %v", kind, source, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(target, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			t.Errorf("unmount %s: %v", target, err)
		}
	})
}

func wantWarning(t *testing.T, db string, parts ...string) {
	t.Helper()
	warnings, err := inspect(db)
	if err != nil || len(warnings) != 1 {
		t.Fatalf("inspect = %q, %v; want one warning", warnings, err)
	}
	for _, part := range append(parts, db) {
		if !strings.Contains(warnings[0], part) {
			t.Errorf("warning %q has no %q", warnings[0], part)
		}
	}
}
