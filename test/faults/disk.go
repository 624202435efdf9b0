package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	diskBytes    = 128 << 20
	catalogBytes = 64 << 20 // as test/faults/shop has it
	ordersBytes  = 4 << 20
)

// disk is a loop device of the shop, on a file whose blocks are all there. It has no journal and no cache that is flushed, so that what
// the shop writes is what the device does.
type disk struct {
	dir     string // where it is mounted
	device  string // such as loop3
	backing string // device of the file, as major:minor
	below   string // and its name
	mounted bool
}

func openDisk(dir string) (d *disk, err error) {
	d = &disk{dir: filepath.Join(dir, "disk")}
	image := filepath.Join(dir, "disk.img")
	if err := errors.Join(os.Mkdir(d.dir, 0o755), os.WriteFile(image, make([]byte, diskBytes), 0o600)); err != nil {
		return d, err
	}
	var stat unix.Stat_t
	if err := unix.Stat(image, &stat); err != nil {
		return d, err
	}
	d.backing = fmt.Sprintf("%d:%d", unix.Major(stat.Dev), unix.Minor(stat.Dev))
	name, err := os.Readlink("/sys/dev/block/" + d.backing)
	if err != nil {
		return d, err
	}
	d.below = filepath.Base(name)
	output, err := exec.Command("losetup", "--direct-io=on", "--find", "--show", image).Output()
	if err != nil {
		return d, fmt.Errorf("losetup: %w", err)
	}
	device := strings.TrimSpace(string(output))
	d.device = filepath.Base(device)
	if err := os.WriteFile("/sys/block/"+d.device+"/queue/write_cache", []byte("write through"), 0o644); err != nil {
		return d, err
	}
	if err := command("mkfs.ext2", "-q", device); err != nil {
		return d, err
	}
	if err := d.mount(); err != nil {
		return d, err
	}
	if err := errors.Join(os.WriteFile(filepath.Join(d.dir, "catalog"), make([]byte, catalogBytes), 0o600),
		os.WriteFile(filepath.Join(d.dir, "orders"), make([]byte, ordersBytes), 0o600)); err != nil {
		return d, err
	}
	// Anew, so that the page cache is charged to who reads first.
	return d, errors.Join(d.unmount(), d.mount())
}

func (d *disk) mount() error {
	err := command("mount", "-o", "noatime", "/dev/"+d.device, d.dir)
	d.mounted = err == nil
	return err
}

func (d *disk) unmount() error {
	err := command("umount", d.dir)
	d.mounted = err != nil
	return err
}

func (d *disk) close() (err error) {
	if d.mounted {
		err = d.unmount()
	}
	if d.device != "" {
		err = errors.Join(err, command("losetup", "-d", "/dev/"+d.device))
	}
	return err
}
