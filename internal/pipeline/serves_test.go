package pipeline

import (
	"testing"

	"github.com/perfagent/perfagent/internal/host"
)

// A port belongs to the service that answered there last, what was published stays as it was, and no more than servesMax ports are remembered.
func TestServes(t *testing.T) {
	var s serves
	if len(s.all()) != 0 {
		t.Error("something serves before anything has answered")
	}
	shop, stock := &host.Identity{Service: "shop", Namespace: "prod"}, &host.Identity{Service: "stock"}
	s.note(8080, shop)
	first := s.all()
	s.note(8080, shop)
	s.note(8081, stock)
	s.note(0, shop) // a Unix socket
	s.note(9090, &host.Identity{})
	s.note(8080, stock)
	if got := s.all(); len(got) != 2 || got[8080] != (Server{Service: "stock"}) || got[8081] != (Server{Service: "stock"}) {
		t.Errorf("%v", got)
	}
	if len(first) != 1 || first[8080] != (Server{"shop", "prod"}) {
		t.Errorf("what was published became %v", first)
	}
	for port := range uint16(2 * servesMax) {
		s.note(10_000+port, shop)
	}
	if got := s.all(); len(got) != servesMax {
		t.Errorf("%d ports are remembered", len(got))
	}
	s.note(8081, shop) // known, and another's now
	if got := s.all()[8081]; got.Service != "shop" {
		t.Errorf("%v", got)
	}
}
