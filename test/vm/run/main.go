// Command run runs a command inside a virtual machine with one of Debian's kernels; see package vm.
//
//	go run ./test/vm/run -kernel 6.1 -- uname -r
//
// It exits with the command's status, with 124 after the timeout, with 125 when the machine itself failed and with 2 on
// wrong usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/perfagent/perfagent/test/vm"
)

const (
	exitUsage   = 2
	exitTimeout = 124
	exitMachine = 125
)

func main() { os.Exit(run()) }

func run() int {
	opts := vm.Options{Stdout: os.Stdout, Stderr: os.Stderr}
	flag.StringVar(&opts.Kernel, "kernel", "6.1", "5.10, 6.1 or 6.12")
	flag.StringVar(&opts.Dir, "dir", "", "working directory in the guest (default the current one)")
	flag.IntVar(&opts.CPUs, "smp", 0, "CPUs (default 2, or 1 with -icount)")
	flag.IntVar(&opts.MemoryMiB, "mem", 0, "memory in MiB (default 2048)")
	flag.BoolVar(&opts.ICount, "icount", false, "the guest's clock counts instructions, one nanosecond each")
	flag.DurationVar(&opts.Timeout, "timeout", 0, "kill the machine after this time (default 10m)")
	flag.StringVar(&opts.KernelParameters, "append", "", "further kernel parameters")
	flag.Func("env", "NAME=VALUE for the command; repeatable", appendTo(&opts.Env))
	flag.Func("share", "directory of the host that the guest can write to; repeatable", appendTo(&opts.Share))
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: run [flags] -- command [argument]...")
		flag.PrintDefaults()
	}
	flag.Parse()
	opts.Command = flag.Args()
	if len(opts.Command) == 0 {
		flag.Usage()
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return exitCode(vm.Run(ctx, opts))
}

func appendTo(list *[]string) func(string) error {
	return func(s string) error {
		*list = append(*list, s)
		return nil
	}
}

func exitCode(err error) int {
	var exit *vm.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.Status
	}
	fmt.Fprintln(os.Stderr, "run:", err)
	if errors.Is(err, context.DeadlineExceeded) {
		return exitTimeout
	}
	return exitMachine
}
