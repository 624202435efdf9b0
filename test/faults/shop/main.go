// Command shop is the application of the fault pack, and the store that it calls: two services of one program, told apart by the name
// under which it is installed. What goes wrong with it is set through a control socket, so that no request tells of it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Faults is what is wrong with the program; the zero value is nothing.
type Faults struct {
	DelayMS    float64 // that the store takes longer for each answer
	ErrorShare float64 // of the answers that are errors
	LeakMB     int     // of memory that is held
	HoldLockMS float64 // how long a report at a time holds the lock, which it takes again 5 ms later
	HoldPoolMS float64 // how long an export at a time holds all connections to the store, likewise
}

// pause is between two times that something is held.
const pause = 5 * time.Millisecond

// faults is what was set last.
var faults atomic.Pointer[Faults]

func main() {
	address := flag.String("address", "", "where to serve")
	control := flag.String("control", "", "Unix socket for faults")
	store := flag.String("store", "", "address of the store; empty: this is one")
	data := flag.String("data", "", "directory of the application's files")
	work := flag.Float64("work", 1, "factor of the work for each request: another version's")
	flag.Parse()
	faults.Store(new(Faults))
	if err := run(*address, *control, *store, *data, *work); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(address, control, store, data string, work float64) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	handler := http.Handler(storeHandler())
	if store != "" {
		a, err := newApplication(store, data, work)
		if err != nil {
			return err
		}
		go a.hold(ctx)
		handler = a.handler()
	}
	os.Remove(control)
	listener, err := net.Listen("unix", control)
	if err != nil {
		return err
	}
	go http.Serve(listener, http.HandlerFunc(setFaults)) // ends with the process
	return serve(ctx, address, handler)
}

// serve answers until the context ends, and finishes what is under way then. A newer version may listen at the same address before.
func serve(ctx context.Context, address string, handler http.Handler) error {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		const reusePort = 0xf // SO_REUSEPORT
		controlErr := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, reusePort, 1) })
		return errors.Join(controlErr, err)
	}}
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler}
	go func() {
		<-ctx.Done()
		ending, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		_ = server.Shutdown(ending) // what is left then is cut off by the end of the process
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// leaked holds memory, guarded by leaking.
var (
	leaking sync.Mutex
	leaked  [][]byte
)

// setFaults replaces what is wrong.
func setFaults(w http.ResponseWriter, r *http.Request) {
	f := new(Faults)
	if err := json.NewDecoder(r.Body).Decode(f); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	faults.Store(f)
	leaking.Lock()
	defer leaking.Unlock()
	for len(leaked) > f.LeakMB {
		leaked[len(leaked)-1] = nil
		leaked = leaked[:len(leaked)-1]
	}
	for len(leaked) < f.LeakMB {
		block := make([]byte, 1<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		leaked = append(leaked, block)
	}
}
