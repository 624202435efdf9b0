package web

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/perfagent/perfagent/internal/export"
	"github.com/perfagent/perfagent/internal/trace"
)

const (
	// noticeEvery is after how many lines, at the latest, a subscriber hears of what it missed.
	noticeEvery = 256

	// drainTimeout is how long a stream may take, once its server ends, to hand out what was published before.
	drainTimeout = time.Second
)

// socketPaths are what `perfagent top` and `perfagent report` read of the socket, beside GET /trace.
var socketPaths = []string{"/dashboard", "/api/v1/query", "/report"}

// ServeTrace serves GET /trace of the hub on a listener (of ListenSocket), and of the server what top and report read, behind the gate,
// until the context ends, and closes it. A nil server serves nothing. Who may open the socket needs no password.
func ServeTrace(ctx context.Context, l net.Listener, gate *Gate, hub *trace.Hub, server *Server, log *slog.Logger) error {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	mux := http.NewServeMux()
	mux.Handle(trace.Path, traceHandler(hub))
	if server != nil {
		for _, path := range socketPaths {
			mux.Handle(path, server.handler)
		}
	}
	return serveSocket(ctx, l, gate, mux, log)
}

func serveSocket(ctx context.Context, l net.Listener, gate *Gate, mux http.Handler, log *slog.Logger) error {
	server := newHTTPServer(mux, log)
	// Streams have no end, and a read deadline would cancel them, too. The hub bounds their number, and drops exchanges
	// for who does not read.
	server.ReadTimeout, server.WriteTimeout = 0, 0
	return serveAll(ctx, []served{{gate.guard(l, server, true), server, ""}}, log)
}

// traceHandler serves GET /trace: a stream of JSON objects, one a line, as the exchanges happen. The response's head is
// sent at once: what happens after it has arrived is in the stream. When the request's context ends, what was published
// before is still sent, for a second at most.
func traceHandler(hub *trace.Hub) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !allowMethods(w, r, http.MethodGet) {
			return
		}
		q, err := trace.ParseQuery(r.URL.Query())
		if err != nil {
			problem(w, http.StatusBadRequest, err.Error())
			return
		}
		q.RawPaths = q.RawPaths || hub.RawPaths()
		s, err := hub.Subscribe(q.Filter, 0)
		if err != nil {
			problem(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		defer s.Close()
		w.Header().Set("Content-Type", "application/x-ndjson")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.WriteHeader(http.StatusOK)
		_ = stream(r.Context(), w, hub, s, q) // an error means that the client is gone, or does not read
	})
}

// stream writes until the limit, the end of the context and of what came before it, or a write error.
func stream(ctx context.Context, w http.ResponseWriter, hub *trace.Hub, s *trace.Subscription, q trace.Query) error {
	control := http.NewResponseController(w)
	if err := control.Flush(); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() {
		_ = control.SetWriteDeadline(time.Now().Add(drainTimeout)) // a connection of net/http has deadlines
	})()
	var line []byte
	for sent := 0; q.Limit == 0 || sent < q.Limit; sent++ {
		ex := s.Next(ctx)
		if ex == nil {
			break
		}
		object := export.NewObject(ex, q.RawPaths)
		object.Finding = hub.Finding(ex)
		var err error
		if line, err = object.AppendJSON(line[:0]); err != nil {
			return err
		}
		if _, err := w.Write(line); err != nil {
			return err
		}
		if len(s.C) > 0 && sent%noticeEvery != noticeEvery-1 {
			continue
		}
		if err := writeDropped(w, s); err != nil {
			return err
		}
		if err := control.Flush(); err != nil {
			return err
		}
	}
	return writeDropped(w, s)
}

// writeDropped tells the gap, once the queue is drained or noticeEvery lines after the last time.
func writeDropped(w http.ResponseWriter, s *trace.Subscription) error {
	n := s.Dropped()
	if n == 0 {
		return nil
	}
	b, err := json.Marshal(trace.Dropped{Dropped: n})
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}
