package vm

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// consoleName is the file in the working directory that takes the guest's serial console.
const consoleName = "console"

// portNames are the virtio-serial ports, in the order of the descriptors that QEMU inherits (3 and up).
var portNames = []string{"out", "err", "status"}

// kernelParameters are the same on every host, so that a run means the same everywhere.
var kernelParameters = []string{
	"console=ttyS0", "loglevel=4",
	"panic=-1", "oops=panic", // with -no-reboot: QEMU ends and the console is reported
	"nokaslr",             // repeatable: the same addresses each time
	"no_timer_check",      // while the host is busy the interrupts that the check waits for come too late, and the kernel panics
	"tsc=reliable",        // emulation cannot vouch for it; the fallback traps on each reading of the clock
	"random.trust_cpu=on", // no other source: 5.10 would block
}

func qemuArgs(work string, kernel kernel, opts Options) []string {
	args := []string{
		"-no-user-config", "-nodefaults", "-display", "none", "-no-reboot",
		"-machine", "q35,accel=tcg", "-cpu", "max",
		"-smp", strconv.Itoa(opts.CPUs), "-m", strconv.Itoa(opts.MemoryMiB), "-nic", "none",
		"-kernel", filepath.Join(kernel.dir, "vmlinux"),
		"-initrd", filepath.Join(work, "initramfs"),
		"-append", strings.TrimSpace(strings.Join(kernelParameters, " ") + " " + opts.KernelParameters),
		"-chardev", "file,id=console,path=" + comma(filepath.Join(work, consoleName)), "-serial", "chardev:console",
		"-device", "virtio-serial-pci",
	}
	if opts.ICount {
		args = append(args, "-icount", "shift=0,sleep=off")
	}
	for i, name := range portNames {
		args = append(args,
			"-add-fd", fmt.Sprintf("fd=%d,set=%d", 3+i, 1+i),
			"-chardev", fmt.Sprintf("file,id=%s,path=/dev/fdset/%d,append=on", name, 1+i), // append: a pipe cannot be truncated
			"-device", fmt.Sprintf("virtserialport,chardev=%s,name=%s,nr=%d", name, name, 1+i))
	}
	args = append(args, "-virtfs", "local,id=host,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap")
	for i, dir := range opts.Share {
		args = append(args, "-virtfs", fmt.Sprintf("local,id=%[1]s,path=%[2]s,mount_tag=%[1]s,security_model=none,multidevs=remap",
			shareTag(i), comma(dir)))
	}
	return args
}

func shareTag(i int) string { return fmt.Sprintf("share%d", i) }

// comma escapes a value inside one of QEMU's comma-separated options.
func comma(s string) string { return strings.ReplaceAll(s, ",", ",,") }
