package host

import (
	"bytes"
	"slices"
	"strconv"
	"syscall"
)

const (
	// processStatusBytesMax bounds a read of /proc/PID/status; thousands of groups fit.
	processStatusBytesMax = 64 << 10
	// ancestorDirectoriesMax bounds the walk from a directory up to its root.
	ancestorDirectoriesMax = 64
	// noID is no user and no group (uid_t -1, credentials(7)).
	noID = ^uint32(0)
)

// Bits of a file's mode, for each of its owner, its group and others.
const (
	mayRead   = 4
	maySearch = 1
)

// credentials decide which files a process may read. What the agent may read beyond that is not for names: a process
// chooses its arguments, and with them where a name is looked for.
type credentials struct {
	user, group uint32 // of the file system (fsuid, fsgid)
	groups      []uint32
}

// credentials reads who a process is to the file system. Where that cannot be told it counts as nobody.
func (p procFS) credentials(pid uint32) credentials {
	c := credentials{user: noID, group: noID}
	data, err := p.read(pid, "status", processStatusBytesMax)
	if err != nil {
		return c
	}
	for line := range bytes.Lines(data) {
		if line[len(line)-1] != '\n' {
			break // cut
		}
		key, value, _ := bytes.Cut(line, []byte{':'})
		ids := parseIDs(value)
		switch {
		case string(key) == "Uid" && len(ids) == 4: // real, effective, saved, file system
			c.user = ids[3]
		case string(key) == "Gid" && len(ids) == 4:
			c.group = ids[3]
		case string(key) == "Groups":
			c.groups = ids
		}
	}
	return c
}

func parseIDs(text []byte) (ids []uint32) {
	for field := range bytes.FieldsSeq(text) {
		id, err := strconv.ParseUint(string(field), 10, 32)
		if err != nil {
			return nil
		}
		ids = append(ids, uint32(id))
	}
	return ids
}

// may tells whether a file's mode permits something. The superuser may everything.
func (c *credentials) may(bit uint32, file *syscall.Stat_t) bool {
	switch {
	case c.user == 0:
		return true
	case c.user == file.Uid:
		bit <<= 6
	case c.group == file.Gid || slices.Contains(c.groups, file.Gid):
		bit <<= 3
	}
	return file.Mode&bit != 0
}

// reaches tells whether a directory and all above it, up to root, may be searched. They are those that it lies in, whatever
// links led there.
func (c *credentials) reaches(root, directory int) bool {
	var top, here, before syscall.Stat_t
	if syscall.Fstat(root, &top) != nil {
		return false
	}
	fd := directory
	defer func() {
		if fd != directory {
			syscall.Close(fd)
		}
	}()
	for level := range ancestorDirectoriesMax {
		if syscall.Fstat(fd, &here) != nil || !c.may(maySearch, &here) {
			return false
		}
		if here.Dev == top.Dev && here.Ino == top.Ino {
			return true
		}
		if level > 0 && here.Dev == before.Dev && here.Ino == before.Ino {
			return false // above it there is nothing, and root was not met
		}
		before = here
		parent, err := syscall.Openat(fd, "..", openPath|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
		if err != nil {
			return false
		}
		if fd != directory {
			syscall.Close(fd)
		}
		fd = parent
	}
	return false
}

// ordinaryFileSystems are those that people's files lie on (statfs(2), linux/magic.h). On others, as /proc and /sys, a
// file may do something when it is read, or never answer.
var ordinaryFileSystems = []uint32{
	0xef53, 0x58465342, 0x9123683e, 0xca451a4e, // ext2 to ext4, xfs, btrfs, bcachefs
	0x2fc12fc1, 0xf2f52010, 0x3153464a, 0x52654973, // zfs, f2fs, jfs, reiserfs
	0x3434, 0x24051905, 0x72b6, 0x28cd3d45, // nilfs, ubifs, jffs2, cramfs
	0x73717368, 0xe0f5e1e2, 0x9660, 0x15013346, // squashfs, erofs, iso9660, udf
	0x01021994, 0x858458f6, 0x794c7630, 0x61756673, // tmpfs, ramfs, overlayfs, aufs
	0x4d44, 0x2011bab0, 0x7366746e, 0x5346544e, 0x482b, // vfat, exfat, ntfs3, ntfs, hfsplus
	0x6969, 0xff534d42, 0xfe534d42, 0x517b, 0x5346414f, // nfs, cifs, smb2, smb, afs
	0x01021997, 0x65735546, 0x786f4256, 0xf15f, // 9p, fuse with virtiofs, vboxsf, ecryptfs
	0x00c36400, 0x0bd00bd0, 0x01161970, 0x7461636f, 0x47504653, 0x19830326, // ceph, lustre, gfs2, ocfs2, gpfs, beegfs
}

// isOrdinary tells whether an open file lies on an ordinary file system.
func isOrdinary(fd int) bool {
	var where syscall.Statfs_t
	return syscall.Fstatfs(fd, &where) == nil && slices.Contains(ordinaryFileSystems, uint32(where.Type))
}
