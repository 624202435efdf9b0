package main

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"time"

	"github.com/perfagent/perfagent/internal/web"
)

// socketInterval is how often it is looked whether the trace socket is still at its path: who cleans up below /run removes it.
const socketInterval = 5 * time.Second

// serveTrace serves traces at the socket until the context ends. One that fails, or whose path was removed, is made anew.
func (a *agent) serveTrace(ctx context.Context, path string, socket net.Listener) {
	works := a.recoveries.of("trace_socket")
	for {
		err := a.serveTraceAt(ctx, path, socket)
		if ctx.Err() != nil {
			return
		}
		works(false)
		a.log.Error("the trace socket is made anew", "socket", path, "err", err)
		for pause := reopenPauseMin; ; pause = min(2*pause, reopenPauseMax) {
			if socket, err = web.ListenSocket(path); err == nil {
				break
			}
			a.log.Debug("the trace socket cannot be made yet", "err", err)
			if !sleep(ctx, pause) {
				return
			}
		}
		works(true)
		a.log.Info("traces are served again", "socket", path)
	}
}

// errSocketGone says that nobody finds the socket any more.
var errSocketGone = errors.New("its path was removed or leads to another")

// serveTraceAt serves until the context ends, serving fails, or the path does not lead to the socket.
func (a *agent) serveTraceAt(ctx context.Context, path string, socket net.Listener) error {
	ours, err := os.Lstat(path)
	if err != nil {
		return errors.Join(err, socket.Close())
	}
	serving, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for {
			select {
			case <-serving.Done():
				return
			case <-time.After(socketInterval):
			}
			there, err := os.Lstat(path)
			if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(ours, there) {
				if s, ok := socket.(*net.UnixListener); ok {
					s.SetUnlinkOnClose(false) // what is there is not ours
				}
				cancel(errSocketGone)
				return
			}
		}
	}()
	err = web.ServeTrace(serving, socket, a.gate, a.hub, a.server, a.log)
	cancel(nil)
	<-watched
	return errors.Join(err, context.Cause(serving))
}
