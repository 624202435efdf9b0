package main

import (
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/perfagent/perfagent/internal/host"
)

// notifier tells the service manager what the agent does, by the protocol of sd_notify(3). Without a manager it does
// nothing.
type notifier struct{ address string }

func newNotifier(environ []string) notifier {
	for _, entry := range environ {
		if address, ok := strings.CutPrefix(entry, "NOTIFY_SOCKET="); ok {
			return notifier{address}
		}
	}
	return notifier{}
}

func (n notifier) ready(status string) error {
	return n.send(fmt.Sprintf("READY=1\nSTATUS=%s\nMAINPID=%d", strings.ReplaceAll(status, "\n", " "), os.Getpid()))
}

// reloading announces a reload (Type=notify-reload); ready ends it.
func (n notifier) reloading() error {
	return n.send(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", host.Monotonic()/1000))
}

func (n notifier) stopping() error { return n.send("STOPPING=1\nSTATUS=detaching") }

// send writes one datagram. An address that begins with @ is abstract, which Go's net knows too.
func (n notifier) send(message string) error {
	if n.address == "" {
		return nil
	}
	connection, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.address, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	defer connection.Close()
	if _, err := connection.Write([]byte(message)); err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	return nil
}
