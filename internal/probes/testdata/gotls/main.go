// A client and a server of crypto/tls in one process, joined by memory. It says what it called with which arguments, so that a test can compare
// what its probes saw. Each message is written and read by goroutines of its own, whose stacks are small and have to grow.
//
//	gotls KEY CERTIFICATE MESSAGES
package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"strconv"
	"unsafe"
)

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var out, in [4096]byte

func run(key, certificate, count string) error {
	messages, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		return err
	}
	a, b := net.Pipe()
	// Without tickets, which the server would write to a client that does not read.
	server := tls.Server(a, &tls.Config{Certificates: []tls.Certificate{pair}, SessionTicketsDisabled: true})
	client := tls.Client(b, &tls.Config{InsecureSkipVerify: true})
	done := make(chan error)
	go func() { done <- server.Handshake() }()
	if err := client.Handshake(); err != nil {
		return err
	}
	if err := <-done; err != nil {
		return err
	}
	fmt.Println("ready")
	if _, err := fmt.Scanln(new(string)); err != nil {
		return err
	}
	reads, written := 0, 0
	for i := range messages {
		n := 1 + i%1777
		for j := range n {
			out[j] = 'a' + byte(i%26)
		}
		go func() {
			_, err := client.Write(out[:n])
			done <- err
		}()
		written += n
		for got := 0; got < n; reads++ {
			read := make(chan int)
			go func() {
				r, err := server.Read(in[:1000])
				if err != nil {
					r = 1 << 20
				}
				read <- r
			}()
			got += <-read
		}
		if err := <-done; err != nil {
			return err
		}
	}
	fmt.Println(messages, reads, written, uintptr(unsafe.Pointer(&out)), uintptr(unsafe.Pointer(&in)))
	return nil
}
