package web

import (
	"net"
	"net/http"
)

// listenHealth opens the address for probes, if there shall be one. It may be anywhere: what it answers says only whether the
// agent counts.
func (s *Server) listenHealth() (err error) {
	if s.options.HealthAddress == "" {
		return nil
	}
	s.health, err = listen(s.options.HealthAddress, "--web.health-address", true)
	return err
}

// HealthAddress is where probes are answered, with the port that was chosen for port 0; nil: nowhere.
func (s *Server) HealthAddress() net.Addr {
	if s.health == nil {
		return nil
	}
	return s.health.Addr()
}

// servedHealth serves the two paths that need no password. Its connections are bounded by themselves, so that neither a flood of
// scrapes makes an orchestrator restart the agent, nor one of probes keeps scrapes out.
func (s *Server) servedHealth() served {
	mux := http.NewServeMux()
	mux.HandleFunc("/-/healthy", s.serveHealthy)
	mux.HandleFunc("/-/ready", s.serveReady)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		problem(w, http.StatusNotFound, "this address answers /-/healthy and /-/ready only")
	})
	server := newHTTPServer(mux, s.options.Log)
	return served{NewGate().guard(s.health, server, false), server, ""}
}
