// Command http2 records what a client and a server of grpc-go say to each other: unary calls, streams of either side and of both, an
// unknown method, and a call that its client gives up. It is a module of its own, as gRPC is heavy; its recording is one of
// internal/http2/testdata:
//
//	cd test/http2 && go run . > ../../internal/http2/testdata/grpc-grpc.h2
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func main() {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	s := grpc.NewServer()
	s.RegisterService(&shop, nil)
	go func() { _ = s.Serve(server) }()
	proxy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- record(proxy, server.Addr().String()) }()
	if err := calls(proxy.Addr().String()); err != nil {
		log.Fatal(err)
	}
	if err := <-done; err != nil {
		log.Fatal(err)
	}
}

// shop is a service with a method of each kind; its messages are strings.
var shop = grpc.ServiceDesc{
	ServiceName: "shop.Items",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{MethodName: "Get", Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		var name wrapperspb.StringValue
		if err := decode(&name); err != nil {
			return nil, err
		}
		if name.Value == "" {
			return nil, status.Error(codes.NotFound, "no such item: \"\"")
		}
		return wrapperspb.String("an item"), nil
	}}},
	Streams: []grpc.StreamDesc{
		{StreamName: "List", ServerStreams: true, Handler: func(_ any, s grpc.ServerStream) error { return talk(s, 1, 5) }},
		{StreamName: "Put", ClientStreams: true, Handler: func(_ any, s grpc.ServerStream) error { return talk(s, 4, 1) }},
		{StreamName: "Sync", ServerStreams: true, ClientStreams: true, Handler: func(_ any, s grpc.ServerStream) error { return talk(s, 3, 3) }},
		{StreamName: "Watch", ServerStreams: true, Handler: func(_ any, s grpc.ServerStream) error {
			err := talk(s, 1, 1)
			<-s.Context().Done()
			return err
		}},
	},
}

// talk receives and sends so many messages.
func talk(s grpc.ServerStream, receives, sends int) error {
	for range receives {
		if err := s.RecvMsg(new(wrapperspb.StringValue)); err != nil {
			return err
		}
	}
	for range sends {
		if err := s.SendMsg(wrapperspb.String("a message")); err != nil {
			return err
		}
	}
	return nil
}

func calls(address string) error {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	ctx := context.Background()
	for _, c := range []struct{ method, name string }{{"Get", "a"}, {"Get", "b"}, {"Get", ""}, {"Missing", "a"}} {
		err := conn.Invoke(ctx, "/shop.Items/"+c.method, wrapperspb.String(c.name), new(wrapperspb.StringValue))
		fmt.Fprintln(os.Stderr, c.method, c.name, status.Code(err))
	}
	for i, sends := range []int{1, 4, 3} {
		if err := stream(ctx, conn, &shop.Streams[i], sends); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if err := stream(ctx, conn, &shop.Streams[3], 1); status.Code(err) != codes.DeadlineExceeded {
		return fmt.Errorf("a call given up ended with %w", err)
	}
	return conn.Close()
}

func stream(ctx context.Context, conn *grpc.ClientConn, desc *grpc.StreamDesc, sends int) error {
	s, err := conn.NewStream(ctx, desc, "/shop.Items/"+desc.StreamName)
	if err != nil {
		return err
	}
	for range sends {
		if err := s.SendMsg(wrapperspb.String("mine")); err != nil {
			return err
		}
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	for {
		if err := s.RecvMsg(new(wrapperspb.StringValue)); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// record prints what passes on the first connection to a proxy, a read a line.
func record(proxy net.Listener, address string) error {
	near, err := proxy.Accept()
	if err != nil {
		return err
	}
	far, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	var mu sync.Mutex
	var both sync.WaitGroup
	pass := func(sign string, from, to net.Conn) {
		defer to.Close()
		for buf := make([]byte, 16<<10); ; {
			n, err := from.Read(buf)
			if n > 0 {
				mu.Lock()
				fmt.Fprintf(out, "%s %s\n", sign, hex.EncodeToString(buf[:n]))
				_, _ = to.Write(buf[:n])
				mu.Unlock()
			}
			if err != nil {
				return
			}
		}
	}
	both.Go(func() { pass(">", near, far) })
	both.Go(func() { pass("<", far, near) })
	both.Wait()
	fmt.Fprintln(out, "x")
	return out.Flush()
}
