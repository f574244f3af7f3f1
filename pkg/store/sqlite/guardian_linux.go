package sqlite

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// fileSystems names those that a database should know about, by the f_type of
// statfs(2). The numbers are those of linux/magic.h where x/sys has a name for
// them, else of the place named. Virtiofs, sshfs, s3fs, gocryptfs and the
// shared folders of Docker Desktop all are FUSE.
var fileSystems = map[uint32]fileSystem{
	unix.NFS_SUPER_MAGIC:    {name: "nfs", untrusted: true},
	unix.SMB_SUPER_MAGIC:    {name: "smb", untrusted: true},
	unix.CIFS_SUPER_MAGIC:   {name: "cifs", untrusted: true},
	unix.SMB2_SUPER_MAGIC:   {name: "smb2", untrusted: true},
	unix.V9FS_MAGIC:         {name: "9p", untrusted: true},
	unix.FUSE_SUPER_MAGIC:   {name: "fuse", untrusted: true},
	unix.AFS_SUPER_MAGIC:    {name: "afs", untrusted: true},
	unix.AFS_FS_MAGIC:       {name: "afs", untrusted: true},
	unix.CEPH_SUPER_MAGIC:   {name: "ceph", untrusted: true},
	unix.CODA_SUPER_MAGIC:   {name: "coda", untrusted: true},
	unix.NCP_SUPER_MAGIC:    {name: "ncp", untrusted: true},
	unix.OCFS2_SUPER_MAGIC:  {name: "ocfs2", untrusted: true},
	unix.HOSTFS_SUPER_MAGIC: {name: "hostfs", untrusted: true},
	0x01161970:              {name: "gfs2", untrusted: true},     // linux/gfs2_ondisk.h
	0x786f4256:              {name: "vboxsf", untrusted: true},   // fs/vboxsf/super.c
	0x20030528:              {name: "orangefs", untrusted: true}, // fs/orangefs/orangefs-kernel.h
	// Not in the kernel; the numbers of stat(1) in GNU coreutils.
	0x0bd00bd0: {name: "lustre", untrusted: true},
	0x47504653: {name: "gpfs", untrusted: true},
	0x19830326: {name: "beegfs", untrusted: true},
	0xaad7aaea: {name: "panfs", untrusted: true},
	0xbeefdead: {name: "snfs", untrusted: true},
	0x61636673: {name: "acfs", untrusted: true},
	0x013111a8: {name: "ibrix", untrusted: true},
	0xbacbacbc: {name: "vmhgfs", untrusted: true},
	0x7c7c6673: {name: "prl_fs", untrusted: true},

	unix.TMPFS_MAGIC:           {name: "tmpfs", warning: "it is lost at reboot; put it on a disk"},
	unix.RAMFS_MAGIC:           {name: "ramfs", warning: "it is lost at reboot; put it on a disk"},
	unix.OVERLAYFS_SUPER_MAGIC: {name: "overlayfs", warning: "a container's own layer is lost with the container; put it on a volume"},
}

// fileSystemOf asks statfs. Its f_type is 32 bits wide, and sign-extended on
// some machines.
func fileSystemOf(dir string) (fileSystem, error) {
	st, err := statfs(dir)
	return fileSystems[uint32(st.Type)], err
}

// mountEscapes are the four characters that mountinfo writes in octal.
var mountEscapes = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// mountPoint returns the first of the paths that has something mounted on it,
// be it a folder or a single file, in the mount namespace of this process;
// empty if none has.
func mountPoint(paths ...string) (string, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		// ID, parent, device, root, mount point, …: proc_pid_mountinfo(5).
		if f := strings.Fields(line); len(f) > 4 && slices.Contains(paths, mountEscapes.Replace(f[4])) {
			return mountEscapes.Replace(f[4]), nil
		}
	}
	return "", nil
}

// foreignLocks refuses a database that another SQLite library in this process
// has open. Such a library takes POSIX locks, and those go when any descriptor
// of the file is closed in the same process, by whomever: a commit was lost
// that way. Our own driver takes open file description locks. A library that
// holds no lock at the moment stays unseen.
func foreignLocks(dbPath string) error {
	locks, err := locksOf("/proc/self")
	if err != nil {
		return fmt.Errorf("look for other SQLite libraries: %w", err)
	}
	for _, path := range []string{dbPath, dbPath + "-wal", dbPath + "-shm"} {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look for other SQLite libraries: %w", err)
		}
		for _, l := range locks {
			if l.kind == "POSIX" && l.on(info) {
				return fmt.Errorf("%s is open in this process through another SQLite library, and closing either would drop the other's locks; close that one first, or use it in a process of its own", path)
			}
		}
	}
	return nil
}
