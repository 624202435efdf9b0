package probes

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkSwitch passes a byte to and fro between two threads on one processor: two context switches and four system
// calls a time. "watched" counts this process's waits apart, as the agent does for services.
func BenchmarkSwitch(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("loading BPF programs needs root")
	}
	for _, mode := range []string{"none", "host", "watched", "none again"} {
		b.Run(mode, func(b *testing.B) {
			if mode == "host" || mode == "watched" {
				h, err := OpenHost(HostOptions{})
				if err != nil {
					b.Fatal(err)
				}
				defer h.Close()
				if mode == "watched" {
					if _, err := h.Watch(map[uint32]uint32{uint32(os.Getpid()): 1}); err != nil {
						b.Fatal(err)
					}
				}
			}
			pingPong(b)
		})
	}
}

func pingPong(b *testing.B) {
	var to, from [2]int
	if err := unix.Pipe(to[:]); err != nil {
		b.Fatal(err)
	}
	if err := unix.Pipe(from[:]); err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		pinThread(b)
		var c [1]byte
		for {
			if n, _ := unix.Read(to[0], c[:]); n != 1 {
				return
			}
			unix.Write(from[1], c[:])
		}
	}()
	pinThread(b)
	var c [1]byte
	for b.Loop() {
		unix.Write(to[1], c[:])
		unix.Read(from[0], c[:])
	}
	unix.Close(to[1])
	<-done
	unix.Close(to[0])
	unix.Close(from[0])
	unix.Close(from[1])
}

// pinThread binds the goroutine to a thread, and that to one processor; the thread ends with the goroutine.
func pinThread(t testing.TB) {
	runtime.LockOSThread()
	var set unix.CPUSet
	set.Set(1 % runtime.NumCPU())
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		t.Error(err)
	}
}
