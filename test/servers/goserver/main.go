// goserver is a plain net/http server with the test endpoints. With -clock it logs the monotonic instants of every
// socket call, which the tests compare with what perfagent reports.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/perfagent/perfagent/test/clock"
)

func main() {
	network := flag.String("network", "tcp", "tcp or unix")
	address := flag.String("address", "127.0.0.1:0", "address to listen on")
	mode := flag.String("mode", "", "tls: behind TLS, with a new certificate; h2c: HTTP/2 in clear, with prior knowledge; empty: HTTP/1")
	clockPath := flag.String("clock", "", "file for the clock log; empty: none, and connections stay plain")
	flag.Parse()
	listener, err := net.Listen(*network, *address)
	if err != nil {
		log.Fatal(err)
	}
	if *network == "unix" {
		// The worker processes of a proxy run as another user.
		if err := os.Chmod(*address, 0o777); err != nil {
			log.Fatal(err)
		}
	}
	if *clockPath != "" {
		clockLog, err := clock.OpenLog(*clockPath)
		if err != nil {
			log.Fatal(err)
		}
		listener = clockLog.Listener(listener)
	}
	server := &http.Server{Handler: handler(), ReadHeaderTimeout: time.Minute}
	switch *mode {
	case "tls":
		listener = tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{newCertificate()}})
	case "h2c":
		server.Protocols = new(http.Protocols)
		server.Protocols.SetUnencryptedHTTP2(true)
	}
	log.Fatal(server.Serve(listener))
}

// newCertificate signs itself.
func newCertificate() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		log.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/fast", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	mux.HandleFunc("/sleep/{ms}", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Duration(number(r, "ms")) * time.Millisecond)
		io.WriteString(w, "ok")
	})
	mux.HandleFunc("/bytes/{n}", bytesOf)
	mux.HandleFunc("/chunked/{n}", chunked)
	mux.HandleFunc("/upload", func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	})
	mux.HandleFunc("/status/{code}", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(number(r, "code")) })
	mux.HandleFunc("/hints", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		io.WriteString(w, "ok")
	})
	mux.HandleFunc("/ends/{kind}", ends)
	mux.HandleFunc("/test.Calls/{method}", call)
	mux.HandleFunc("/abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	// The mux cleans paths and knows no authority form; the tests send both.
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodConnect {
			tunnel(w)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// call answers a call of gRPC, over HTTP/2, with an empty message and the status of its method's name.
func call(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status")
	_, _ = w.Write(make([]byte, 5))
	w.Header().Set("Grpc-Status", strings.TrimPrefix(r.PathValue("method"), "Status"))
}

func number(r *http.Request, name string) int {
	n, err := strconv.Atoi(r.PathValue(name))
	if err != nil || n < 0 {
		return 0
	}
	return n
}

func bytesOf(w http.ResponseWriter, r *http.Request) {
	n := number(r, "n")
	w.Header().Set("Content-Length", strconv.Itoa(n))
	block := make([]byte, min(n, 64<<10))
	for n > 0 {
		m, err := w.Write(block[:min(n, len(block))])
		if err != nil {
			return
		}
		n -= m
	}
}

// chunked sends n chunks of 100 bytes, each flushed by itself, ?delay=MS apart.
func chunked(w http.ResponseWriter, r *http.Request) {
	delay, _ := strconv.Atoi(r.FormValue("delay"))
	for range number(r, "n") {
		w.Write(make([]byte, 100))
		w.(http.Flusher).Flush()
		time.Sleep(time.Duration(delay) * time.Millisecond)
	}
}

// ends answers in two pieces with a pause between, ?pause=MS, the last of which never comes where the kind begins with "cut-".
func ends(w http.ResponseWriter, r *http.Request) {
	ms, _ := strconv.Atoi(r.FormValue("pause"))
	kind, cut := strings.CutPrefix(r.PathValue("kind"), "cut-")
	header := w.Header()
	switch kind {
	case "length":
		header.Set("Content-Length", "10")
	case "interim":
		header.Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
	case "chunk-trailers":
		header.Set("Trailer", "X-Sum")
	}
	if kind != "unanswered" {
		io.WriteString(w, "01234")
		w.(http.Flusher).Flush()
	}
	time.Sleep(time.Duration(ms) * time.Millisecond)
	if cut {
		panic(http.ErrAbortHandler)
	}
	if kind == "chunk-trailers" {
		header.Set("X-Sum", "abc")
		return
	}
	io.WriteString(w, "56789")
}

// tunnel answers CONNECT and echoes.
func tunnel(w http.ResponseWriter) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		fmt.Fprintln(os.Stderr, "hijack:", err)
		return
	}
	defer conn.Close()
	io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
	io.Copy(conn, buffered)
}
