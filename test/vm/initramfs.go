package vm

import (
	"bufio"
	"debug/elf"
	_ "embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed guest.sh
var guestScript []byte

// cpioWriter writes an archive in the "newc" format that the kernel unpacks at boot
// (Documentation/driver-api/early-userspace/buffer-format.rst): a header of thirteen 8-digit hexadecimal fields, the name and
// the data, each padded to four bytes. The first error sticks and is returned by close.
type cpioWriter struct {
	w     *bufio.Writer
	inode int
	err   error
}

func (c *cpioWriter) dir(name string)                         { c.entry(name, 0o040755, nil) }
func (c *cpioWriter) file(name string, mode int, data []byte) { c.entry(name, 0o100000|mode, data) }

func (c *cpioWriter) entry(name string, mode int, data []byte) {
	if c.err != nil {
		return
	}
	c.inode++
	const links = 1
	header := fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		c.inode, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
	c.padded([]byte(header + name + "\x00"))
	c.padded(data)
}

func (c *cpioWriter) padded(b []byte) {
	if _, err := c.w.Write(b); err != nil {
		c.err = err
	}
	if _, err := c.w.Write(make([]byte, -len(b)&3)); err != nil {
		c.err = err
	}
}

func (c *cpioWriter) close() error {
	c.entry("TRAILER!!!", 0, nil)
	if c.err != nil {
		return c.err
	}
	return c.w.Flush()
}

// writeInitramfs writes the first file system of the guest: busybox, guest.sh, the modules, and what to run.
func writeInitramfs(path string, kernel kernel, opts Options) (err error) {
	busybox, err := readBusybox()
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("creating the initramfs: %w", err)
	}
	defer func() {
		if closeErr := f.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("writing the initramfs: %w", closeErr)
		}
	}()
	c := newCPIO(f)
	c.dir("bin")
	c.dir("modules")
	c.file("bin/busybox", 0o755, busybox)
	c.file("init", 0o755, guestScript)
	c.file("prepare.sh", 0o644, prepareScript(kernel, opts))
	c.file("job.sh", 0o644, jobScript(opts))
	var order strings.Builder
	for _, module := range kernel.modules {
		data, err := os.ReadFile(filepath.Join(kernel.dir, module))
		if err != nil {
			return fmt.Errorf("reading a module of the guest: %w", err)
		}
		c.file("modules/"+filepath.Base(module), 0o644, data)
		order.WriteString(filepath.Base(module) + "\n")
	}
	c.file("modules/order", 0o644, []byte(order.String()))
	if err := c.close(); err != nil {
		return fmt.Errorf("writing the initramfs: %w", err)
	}
	return nil
}

func newCPIO(w io.Writer) *cpioWriter { return &cpioWriter{w: bufio.NewWriter(w)} }

// readBusybox reads the host's busybox, which has to be the static one: the guest starts without a C library.
func readBusybox() ([]byte, error) {
	const remedy = "install the apt package busybox-static"
	path, err := exec.LookPath("busybox")
	if err != nil {
		return nil, fmt.Errorf("finding busybox (%s): %w", remedy, err)
	}
	f, err := elf.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	defer f.Close()
	for _, prog := range f.Progs {
		if prog.Type == elf.PT_INTERP {
			return nil, fmt.Errorf("%s is linked dynamically: %s", path, remedy)
		}
	}
	return os.ReadFile(path)
}

// prepareScript mounts what differs from one start to the next.
func prepareScript(kernel kernel, opts Options) []byte {
	var b strings.Builder
	modules := "/lib/modules/" + kernel.abi
	fmt.Fprintf(&b, "$bb mkdir -p %[2]s && $bb mount --bind %[1]s %[2]s\n", quote(kernel.dir+modules), quote(modules))
	for i, dir := range opts.Share {
		fmt.Fprintf(&b, "$bb mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=none %s %s || fail %s\n",
			shareTag(i), quote(dir), quote(dir+" cannot be mounted"))
	}
	return []byte(b.String())
}

// jobScript sets the environment and the working directory and becomes the command.
func jobScript(opts Options) []byte {
	var b strings.Builder
	env := append([]string{"PATH=" + os.Getenv("PATH"), "HOME=/root", "LANG=C.UTF-8"}, opts.Env...)
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		fmt.Fprintf(&b, "export %s=%s\n", name, quote(value))
	}
	fmt.Fprintf(&b, "cd %s || exit 126\nexec", quote(opts.Dir))
	for _, arg := range opts.Command {
		b.WriteString(" " + quote(arg))
	}
	b.WriteString("\n")
	return []byte(b.String())
}

// quote makes one word of a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
