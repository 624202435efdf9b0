// Package route finds the templates that requests are grouped by from their paths alone: learned from a service's requests
// (Learner) or read from a file (Routes). It also hides what a path without a template must not show (MaskPath). Nothing
// here allocates in the steady state, and nothing trusts its input.
package route

import (
	"io"

	"github.com/perfagent/perfagent/internal/wire"
)

const (
	// servicesMax bounds the services that are learned from at the same time. Further ones take the place of those without
	// requests for the longest time, if there are any.
	servicesMax = 48
	// nodesAllMax bounds what is known of all services together: 12 MiB by the nodes, up to twice that with long and hostile
	// paths. A usual service has some hundred nodes.
	nodesAllMax = 3 * nodesMax
	// serviceIdle is after how many requests to others a service may lose its place.
	serviceIdle = 1 << 20
	// templatesMax bounds the table of templates: at most 8192 x ~(258 + 50) B = 2.4 MiB.
	templatesMax = 1 << 13
)

// Router finds the template that a path belongs to: that of the routes file if one matches, else what is learned from the
// service's requests (Learner). Memory is bounded whatever the paths. One goroutine uses it.
type Router struct {
	routes    *Routes
	services  map[string]*service
	requests  uint64
	epoch     int
	templates map[string]string
	buf       []byte
}

// service is what is known of one.
type service struct {
	*Learner
	latest uint64 // its last request, as Router.requests counts
}

// NewRouter returns a Router without a routes file.
func NewRouter() *Router {
	return &Router{services: map[string]*service{}, templates: map[string]string{}}
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
	r.epoch++
}

// Epoch changes when the template of a path that was seen before may have changed.
func (r *Router) Epoch() int { return r.epoch }

// Route counts a number of equal requests, which a service answered with a status (0: not known), and returns the template
// of their path (without query) and how it was found: "*" for the asterisk form, "" for an empty path (CONNECT).
func (r *Router) Route(name, method string, path []byte, status uint16, count uint32) (string, wire.RouteSource) {
	if len(path) == 0 {
		return "", wire.RouteNone
	}
	if r.routes != nil && path[0] == '/' {
		if t := r.routes.match(name, method, path); t != "" {
			return t, wire.RouteFile
		}
	}
	r.requests += uint64(count)
	if len(path) == 1 && path[0] == '*' {
		return "*", wire.RouteLearned
	}
	s := r.service(name)
	if s == nil {
		r.buf = Mask(r.buf[:0], path)
		return r.intern(), wire.RouteMasked
	}
	s.latest = r.requests
	epoch := s.Epoch()
	r.buf = s.Learn(r.buf[:0], method, path, status, count)
	if s.Epoch() != epoch {
		r.epoch++
	}
	return r.intern(), wire.RouteLearned
}

// Current returns what has become of a template that was learned before: the same one, where nothing changed.
func (r *Router) Current(name, template string) string {
	s := r.services[name]
	if s == nil || template == "" || template == "*" {
		return template
	}
	r.buf = s.Current(r.buf[:0], template)
	if string(r.buf) == template {
		return template
	}
	return r.intern()
}

// Shrink makes the largest services forget what is rare while all together know too much.
func (r *Router) Shrink() {
	for {
		nodes, largest := 0, (*service)(nil)
		for _, s := range r.services {
			nodes += s.nodes
			if largest == nil || s.nodes > largest.nodes || s.nodes == largest.nodes && s.latest < largest.latest {
				largest = s
			}
		}
		if nodes <= nodesAllMax {
			return
		}
		largest.prune(largest.nodes / 2)
		r.epoch++
	}
}

// service returns what is known of a service, or nil where there is no room to learn.
func (r *Router) service(name string) *service {
	if s := r.services[name]; s != nil {
		return s
	}
	if len(r.services) >= servicesMax && !r.forget() {
		return nil
	}
	s := &service{Learner: NewLearner()}
	r.services[name] = s
	return s
}

// forget gives up the service without requests for the longest time, if it is long enough.
func (r *Router) forget() bool {
	oldest := ""
	for name, s := range r.services {
		if o := r.services[oldest]; o == nil || s.latest < o.latest {
			oldest = name
		}
	}
	if r.requests-r.services[oldest].latest < serviceIdle {
		return false
	}
	delete(r.services, oldest)
	return true
}

// intern returns the template in buf as a string, the same one each time.
func (r *Router) intern() string {
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
