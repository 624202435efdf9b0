package web

import (
	"fmt"
	"net/http"
	"time"
)

// streamsEachMax bounds the endless answers of one path, each of which keeps a connection and a goroutine. With the
// clients that other paths leave at reading they are fewer than connectionsEachMax.
const streamsEachMax = 6

// endless serves answers that go on until the client leaves or the server ends. The server's timeout for writing is for a
// whole answer and would cut them off; instead, the client has stallTimeout to take each piece: who does not read is cut off as
// everywhere. The timeout for reading stays, as it ends with the request's head and body.
func endless(next http.Handler) http.Handler {
	places := make(chan struct{}, streamsEachMax)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case places <- struct{}{}:
			defer func() { <-places }()
		default:
			w.Header().Set("Retry-After", "1")
			problem(w, http.StatusServiceUnavailable, fmt.Sprintf("%d clients follow this path already", streamsEachMax))
			return
		}
		control := http.NewResponseController(w)
		_ = control.SetWriteDeadline(time.Time{}) // a connection of net/http has deadlines
		next.ServeHTTP(&endlessWriter{w, control}, r)
	})
}

// endlessWriter sends what is written at once, in pieces that have a deadline each.
type endlessWriter struct {
	http.ResponseWriter
	control *http.ResponseController
}

// Write implements io.Writer.
func (e *endlessWriter) Write(b []byte) (n int, err error) {
	for {
		var m int
		err = e.timed(func() (err error) {
			if m, err = e.ResponseWriter.Write(b[:min(len(b), pieceBytes)]); err != nil {
				return err
			}
			return e.control.Flush()
		})
		n, b = n+m, b[m:]
		if err != nil || len(b) == 0 {
			return n, err
		}
	}
}

// FlushError lets http.ResponseController send the head alone.
func (e *endlessWriter) FlushError() error { return e.timed(e.control.Flush) }

// timed gives one write its time, and none to the pause after it.
func (e *endlessWriter) timed(write func() error) error {
	_ = e.control.SetWriteDeadline(time.Now().Add(stallTimeout))
	defer func() { _ = e.control.SetWriteDeadline(time.Time{}) }()
	return write()
}
