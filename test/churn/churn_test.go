package churn

import (
	"fmt"
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	if holder, err := Hold(); holder {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// Every request of a short connection reaches its server, however the client leaves.
func TestShort(t *testing.T) {
	for _, reset := range []bool{false, true} {
		s, err := Serve()
		if err != nil {
			t.Fatal(err)
		}
		err = s.Short(101, reset)
		if served := s.Close(); err != nil || served != 101 {
			t.Errorf("reset %v: %d of 101 requests were read, %v", reset, served, err)
		}
	}
}

// A holder makes an exchange on each of its connections as often as it is told, and says when they are closed.
func TestHolder(t *testing.T) {
	h, err := StartHolder(11)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Stop()
	for _, step := range []func() error{h.Round, h.Round, h.Close} {
		if err := step(); err != nil {
			t.Error(err)
		}
	}
	if err := h.Round(); err == nil {
		t.Error("a holder that has closed made another round")
	}
}

// Books are right with every exchange in both roles, and with nothing else.
func TestBooks(t *testing.T) {
	if b := (Books{Server: 7, Client: 7}); !b.Right(7) {
		t.Errorf("%+v are not right", b)
	}
	for _, b := range []Books{{Server: 6, Client: 7}, {Server: 7, Client: 8}, {Server: 7, Client: 7, Lost: []string{"kernel/ring_full=1"}},
		{Server: 7, Client: 7, States: 1}, {Server: 7, Client: 7, Active: 1}} {
		if b.Right(7) {
			t.Errorf("%+v are right", b)
		}
	}
}
