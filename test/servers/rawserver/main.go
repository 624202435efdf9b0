// rawserver speaks HTTP/1 by hand, to do what real servers seldom do: heads split anywhere, several responses in one
// write, resets in the middle, other threads and processes writing the answer. The path selects the behaviour. It
// logs the instants of every socket call.
package main

import (
	"context"
	"flag"
	"log"
	"net"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/perfagent/perfagent/test/clock"
)

func main() {
	address := flag.String("address", "127.0.0.1:0", "address to listen on")
	clockPath := flag.String("clock", "", "file for the clock log")
	mode := flag.String("mode", "http", "http; echo (binary), redis (a line protocol); smtp, settings: the server speaks first")
	children := flag.Int("prefork", 0, "processes that listen on the address with SO_REUSEPORT; 0: this one alone")
	writer := flag.Bool("writer", false, "be the process that answers on descriptors passed over descriptor 3")
	flag.Parse()
	if *writer {
		writePassed(3)
		return
	}
	if *children > 0 {
		prefork(*children)
		return
	}
	clockLog, err := clock.OpenLog(*clockPath)
	if err != nil {
		log.Fatal(err)
	}
	listener, err := listen(*address)
	if err != nil {
		log.Fatal(err)
	}
	s := &server{mode: *mode, passed: startWriter()}
	listener = clockLog.Listener(listener)
	for {
		conn, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go s.serve(conn.(*clock.Conn))
	}
}

// listen sets SO_REUSEPORT, so that several processes can share the address.
func listen(address string) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var setErr error
		if err := c.Control(func(fd uintptr) {
			setErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		}); err != nil {
			return err
		}
		return setErr
	}}
	config.SetMultipathTCP(false)
	return config.Listen(context.Background(), "tcp", address)
}

// prefork runs this program count times with the same arguments and waits.
func prefork(count int) {
	args := append([]string(nil), os.Args[1:]...)
	args = append(args, "-prefork=0")
	var running []*exec.Cmd
	for range count {
		cmd := exec.Command("/proc/self/exe", args...)
		cmd.Stderr = os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			log.Fatal(err)
		}
		running = append(running, cmd)
	}
	for _, cmd := range running {
		if err := cmd.Wait(); err != nil {
			log.Print(err)
		}
	}
}

// startWriter starts the process that answers /passed and returns this end of the socket to it.
func startWriter() int {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		log.Fatal(err)
	}
	end := os.NewFile(uintptr(pair[1]), "passed")
	cmd := exec.Command("/proc/self/exe", "-writer")
	cmd.ExtraFiles = []*os.File{end}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		log.Fatal(err)
	}
	if err := end.Close(); err != nil {
		log.Print(err)
	}
	return pair[0]
}

// writePassed answers once on each descriptor that arrives on socket, and acknowledges it.
func writePassed(socket int) {
	buffer, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	for {
		n, oobn, _, _, err := unix.Recvmsg(socket, buffer, oob, 0)
		if err != nil || n == 0 {
			return
		}
		messages, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil || len(messages) == 0 {
			log.Fatal("no descriptor arrived: ", err)
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil {
			log.Fatal(err)
		}
		_, writeErr := unix.Write(fds[0], buffer[:n])
		if err := unix.Close(fds[0]); err != nil || writeErr != nil {
			log.Print("passed descriptor: ", err, writeErr)
		}
		if _, err := unix.Write(socket, []byte("done")); err != nil {
			return
		}
	}
}
