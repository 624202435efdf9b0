package http

import (
	"hash/maphash"
	"io"
)

const (
	// routeSlots is the size of the Router's cache: at most (256 + ~60) B x 8192 = 2.5 MiB.
	routeSlots = 1 << 13
	// templatesMax bounds the table of masked templates: at most 8192 x ~(258 + 50) B = 2.4 MiB, twice that while the
	// cache still holds templates of before the table was emptied.
	templatesMax = 1 << 13
)

// Router finds the template that a path belongs to: that of the routes file if one matches, else the path with
// identifiers masked (Mask). Memory is bounded whatever the paths, and nothing is allocated for a path whose template
// is known. One goroutine uses it.
type Router struct {
	routes    *Routes
	seed      maphash.Seed
	slots     []routeSlot
	templates map[string]string
	buf       []byte
}

// routeSlot is a cached answer, found by the hash of its path and replaced by the next path with the same place.
type routeSlot struct {
	service, method string // empty without a routes file, since the answer is the same for all
	path            []byte
	template        string
	used            bool
}

// NewRouter returns a Router without a routes file.
func NewRouter() *Router { return newRouter(routeSlots) }

func newRouter(slots int) *Router {
	return &Router{seed: maphash.MakeSeed(), slots: make([]routeSlot, slots), templates: map[string]string{}}
}

// LoadRoutes reads a routes file (see Routes) in the place of the one before. After an error, which names the line, the
// one before is kept.
func (r *Router) LoadRoutes(rd io.Reader) error {
	routes, err := ParseRoutes(rd)
	if err != nil {
		return err
	}
	r.SetRoutes(routes)
	return nil
}

// SetRoutes puts routes, which may be nil, in the place of the ones before.
func (r *Router) SetRoutes(routes *Routes) {
	if routes != nil && routes.count == 0 {
		routes = nil
	}
	r.routes = routes
	clear(r.slots)
}

// Route returns the template of a path (without query) requested from a service with a method: "*" for the asterisk
// form, "" for an empty path (CONNECT).
func (r *Router) Route(service, method string, path []byte) string {
	if len(path) == 0 {
		return ""
	}
	if len(path) > pathMax { // too long to be worth keeping
		return r.find(service, method, path)
	}
	hash := maphash.Bytes(r.seed, path)
	if r.routes == nil {
		service, method = "", ""
	} else {
		hash ^= maphash.String(r.seed, service) * 31
		hash ^= maphash.String(r.seed, method) * 37
	}
	slot := &r.slots[hash%uint64(len(r.slots))]
	if slot.used && string(slot.path) == string(path) && slot.method == method && slot.service == service {
		return slot.template
	}
	t := r.find(service, method, path)
	if slot.path == nil {
		slot.path = make([]byte, 0, max(len(path), 32))
	}
	slot.used, slot.service, slot.method, slot.template = true, service, method, t
	slot.path = append(slot.path[:0], path...)
	return t
}

// find works a template out.
func (r *Router) find(service, method string, path []byte) string {
	if r.routes != nil && path[0] == '/' {
		if t := r.routes.match(service, method, path); t != "" {
			return t
		}
	}
	r.buf = Mask(r.buf[:0], path)
	if t, ok := r.templates[string(r.buf)]; ok {
		return t
	}
	if len(r.templates) >= templatesMax {
		clear(r.templates)
	}
	t := string(r.buf)
	r.templates[t] = t
	return t
}
