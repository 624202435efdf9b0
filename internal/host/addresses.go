package host

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// addressesEvery is how old the addresses of interfaces may be that are answered with: they change when a container or a VPN starts.
// Reading them takes some 100 us.
const addressesEvery = 10 * time.Second

// Addresses knows the addresses of the host's interfaces, in the network namespace of the agent. The zero value is ready to use, from any
// goroutine; it costs nothing while it is not asked.
type Addresses struct {
	read func() ([]net.Addr, error) // nil: net.InterfaceAddrs
	now  func() time.Time           // nil: time.Now

	mu     sync.Mutex
	readAt time.Time
	all    map[netip.Addr]bool
}

// Has tells whether an address is one of this host. Where they cannot be read those of the last time count.
func (a *Addresses) Has(address netip.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	now, read := time.Now, net.InterfaceAddrs
	if a.now != nil {
		now, read = a.now, a.read
	}
	if at := now(); a.readAt.IsZero() || at.Sub(a.readAt).Abs() >= addressesEvery {
		a.readAt = at
		if all, err := read(); err == nil {
			a.all = addressesOf(all)
		}
	}
	return a.all[address.Unmap().WithZone("")]
}

func addressesOf(all []net.Addr) map[netip.Addr]bool {
	addresses := make(map[netip.Addr]bool, len(all))
	for _, one := range all {
		if prefix, err := netip.ParsePrefix(one.String()); err == nil {
			addresses[prefix.Addr().Unmap().WithZone("")] = true
		}
	}
	return addresses
}
