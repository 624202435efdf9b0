package host

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"
)

// Shows that addresses of interfaces are those of this host, in any form, that new ones are known some seconds after they came, and that a
// failure to read them forgets none.
func TestAddresses(t *testing.T) {
	now := time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	var failure error
	of := func(text string) net.Addr {
		ip, network, err := net.ParseCIDR(text)
		if err != nil {
			t.Fatal(err)
		}
		return &net.IPNet{IP: ip, Mask: network.Mask}
	}
	there := []net.Addr{of("127.0.0.1/8"), of("192.0.2.7/24"), of("2001:db8::7/64"), of("fe80::1/64")}
	a := Addresses{now: func() time.Time { return now }, read: func() ([]net.Addr, error) { return there, failure }}
	has := func(want bool, all ...string) {
		t.Helper()
		for _, text := range all {
			if a.Has(netip.MustParseAddr(text)) != want {
				t.Errorf("%s: %t", text, !want)
			}
		}
	}
	has(true, "127.0.0.1", "192.0.2.7", "::ffff:192.0.2.7", "2001:db8::7", "fe80::1%eth0")
	has(false, "192.0.2.8", "127.0.0.2", "2001:db8::8")
	there = append(there[:1], of("192.0.2.8/24"))
	now = now.Add(addressesEvery)
	has(true, "192.0.2.8")
	has(false, "192.0.2.7", "2001:db8::7")
	there, failure = nil, errors.New("no buffer space available")
	now = now.Add(addressesEvery)
	has(true, "192.0.2.8")
}

// Shows that loopback is among the addresses of the machine that runs the test.
func TestAddressesLive(t *testing.T) {
	var a Addresses
	if !a.Has(netip.MustParseAddr("127.0.0.1")) || a.Has(netip.MustParseAddr("192.0.2.1")) {
		t.Errorf("%v", a.all)
	}
}
