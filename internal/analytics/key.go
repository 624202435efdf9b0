package analytics

import (
	"cmp"
	"strings"

	"github.com/perfagent/perfagent/internal/wire"
)

// Other stands in for a method, route, service or server that has no series of its own because a limit was reached.
const Other = "_OTHER"

// labelBytesMax bounds a label's value: a route or a host name beyond it is noise.
const labelBytesMax = 256

// Key identifies an entry: what the exchanges of one role are grouped by. Of a server it is an endpoint: the operation that a
// service offers. Of a client it is a target: the server that a service calls, and the verb with which it does.
type Key struct {
	Role               wire.Role
	Convention         wire.Convention
	Service, Namespace string
	wire.Operation
	Address string // of a target: its host name, else its IP address
	Port    uint16 // of a target; 0 for Unix sockets
}

// keyOf returns the key of an exchange as it stands; buf has room for the address. The address is valid as long as buf.
func keyOf(ex *wire.Exchange, buf []byte) (k Key, address []byte) {
	k = Key{Role: ex.Role, Convention: ex.Convention, Service: ex.Service, Namespace: ex.Namespace, Operation: ex.Operation}
	if ex.Role != wire.RoleClient {
		return k, nil
	}
	if k.Port = ex.Remote.Port(); k.Convention != wire.ConventionRPC { // a call's name is one of few, a request's is its route
		k.Name = ""
	}
	if name := hostName(ex.Host); len(name) > 0 {
		return k, appendLower(buf, name)
	}
	if a := ex.Remote.Addr(); a.IsValid() {
		return k, a.Unmap().WithZone("").AppendTo(buf)
	}
	return k, nil
}

// clean makes the key's texts labels.
func (k *Key) clean() {
	k.Service, k.Namespace, k.Verb = label(k.Service), label(k.Namespace), label(k.Verb)
	if k.Name != "" {
		k.Name = routeLabel(k.Name)
	}
}

// other returns the key that k shares with others; in common with all of the role where whole.
func (k Key) other(whole bool) Key {
	if whole {
		k = Key{Role: k.Role, Convention: k.Convention, Service: Other, Operation: wire.Operation{Verb: Other}}
	}
	if k.Role == wire.RoleClient {
		k.Address, k.Port, k.Name = Other, 0, ""
	} else {
		k.Name = Other
	}
	return k
}

// isOther tells whether the key stands for others.
func (k *Key) isOther() bool { return k.Name == Other || k.Address == Other }

// compare orders keys by role, namespace, service, address, port, name, verb and convention.
func (k *Key) compare(o *Key) int {
	return cmp.Or(cmp.Compare(k.Role, o.Role), strings.Compare(k.Namespace, o.Namespace), strings.Compare(k.Service, o.Service),
		strings.Compare(k.Address, o.Address), cmp.Compare(k.Port, o.Port), strings.Compare(k.Name, o.Name), strings.Compare(k.Verb, o.Verb),
		cmp.Compare(k.Convention, o.Convention))
}
