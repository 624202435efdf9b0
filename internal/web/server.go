// Package web is the agent's HTTP server: what it serves, to whom, and how many at once. What metrics look like is export's
// business, who gets single exchanges is trace's.
package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	toolkit "github.com/prometheus/exporter-toolkit/web"

	"github.com/perfagent/perfagent/internal/export"
	"github.com/perfagent/perfagent/internal/finding"
)

// AddressDefault is the default of --web.listen-address. Only the host itself can reach it: endpoints and services
// are nobody else's business unless the user says so.
const AddressDefault = "127.0.0.1:9464"

const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 30 * time.Second
	idleTimeout       = 2 * time.Minute
	// writeTimeout bounds a scrape by a client that does not read; Prometheus gives up after 10 s by default. Endless answers
	// are without it.
	writeTimeout   = time.Minute
	headerBytesMax = 16 << 10
	// bodyTimeout is for a request's body, which but questions have: net/http waits for it before the connection's next request.
	bodyTimeout = time.Second
	// streamsMax bounds the requests at once of an HTTP/2 connection (with TLS only).
	streamsMax = 8
	// shutdownTimeout is how long requests under way may take when the server ends.
	shutdownTimeout = 3 * time.Second
)

// ServerOptions configures a Server.
type ServerOptions struct {
	// Addresses are "host:port" or "unix:/path"; empty means AddressDefault.
	Addresses []string
	// WebConfigFile holds TLS and basic auth in the exporter-toolkit's format; empty: neither.
	WebConfigFile string
	// Metrics serves /metrics; nil: nothing does.
	Metrics *export.Metrics
	// Requests serves /requests; nil: nothing does.
	Requests *RequestsHandler
	// Performance is what /performance/summary and /health/performance show; without an engine neither is served.
	Performance PerformanceOptions
	// Agent is what /monitoring/health shows; without a source it is not served.
	Agent AgentOptions
	// Alerts is what /alerts and /api/v1/rules show; without a Manager they are not served.
	Alerts AlertsOptions
	// Troubleshoot is what /troubleshoot/performance shows beside the above; it is served with an engine.
	Troubleshoot TroubleshootOptions
	// API is what Prometheus' query API shows; without an engine it is not served.
	API APIOptions
	// Analysis is what /performance/analytics concludes from and what charts show; without an engine neither is served.
	Analysis AnalysisOptions
	// Report is what /report is made of; without an engine it is not served.
	Report ReportOptions
	// Routes are served beside those of this package.
	Routes []Route
	// Reload applies the configuration anew, and says in one line what was taken over; nil: /-/reload is disabled.
	Reload func() (outcome string, err error)
	// Protection is what WebConfigFile asks for. Beyond loopback the server does not listen with neither, and warns where one
	// is missing.
	Protection Protection
	// AllowUnprotected lets it listen beyond loopback also without any, with a warning.
	AllowUnprotected bool
	// HealthAddress is a further "host:port" that answers /-/healthy and /-/ready alone, without TLS and password, for an
	// orchestrator's probes, which know neither; empty: none.
	HealthAddress string
	// Gate bounds the connections, together with those of other servers; nil: one of its own.
	Gate *Gate
	// Hosts are names under which browsers may ask for the server, besides those of this host and of Addresses.
	Hosts []string
	// Findings are those that are open; nil: nobody draws any.
	Findings func() []finding.Finding
	// Version is shown on the dashboard.
	Version string
	// Log receives what the server has to say; nil: silent.
	Log *slog.Logger
}

// Protection is what keeps others from reading what is served.
type Protection struct {
	TLS            bool
	Authentication bool // passwords, or certificates of clients that are verified
}

// lack says what others could do; "" where all of it is there.
func (p Protection) lack() string {
	switch {
	case !p.TLS && !p.Authentication:
		return "everybody who reaches this address can read what this host serves"
	case !p.Authentication:
		return "TLS authenticates nobody: everybody who reaches this address can read what this host serves"
	case !p.TLS:
		return "without TLS passwords and answers go over the network in clear"
	}
	return ""
}

// ErrPortBusy says that another process listens where the agent shall.
var ErrPortBusy = errors.New("the port is in use by another process")

// Server is the agent's HTTP server. Listen opens its addresses, Serve serves until the context ends.
type Server struct {
	options   ServerOptions
	handler   http.Handler
	hosts     hosts
	questions []string // paths whose POST changes nothing
	ready     atomic.Bool
	listeners []net.Listener
	health    net.Listener // nil: none
}

// NewServer returns a server that is neither listening nor ready.
func NewServer(o ServerOptions) *Server {
	if len(o.Addresses) == 0 {
		o.Addresses = []string{AddressDefault}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Gate == nil {
		o.Gate = NewGate()
	}
	s := &Server{options: o, hosts: newHosts(o.Addresses, o.Hosts)}
	mux := http.NewServeMux()
	for _, r := range s.routes() {
		r.register(mux)
		if r.Question {
			s.questions = append(s.questions, r.Path)
		}
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		problem(w, http.StatusNotFound, "nothing is served at this path; /openapi.json lists what is")
	})
	s.handler = mux
	return s
}

// routes is the table of all that is served.
func (s *Server) routes() []Route {
	o := &s.options
	all := []Route{
		{Path: "/-/healthy", Summary: "Whether the agent runs.", MediaType: "text/plain", Handler: http.HandlerFunc(s.serveHealthy)},
		{Path: "/-/ready", Summary: "Whether it is counting.", MediaType: "text/plain", Errors: []int{http.StatusServiceUnavailable},
			Handler: http.HandlerFunc(s.serveReady)},
		{Path: "/-/reload", Summary: "Applies the configuration anew, and says which changes need a restart.", MediaType: "text/plain", Methods: []string{http.MethodPost, http.MethodPut},
			Errors: []int{http.StatusForbidden, http.StatusInternalServerError}, Handler: http.HandlerFunc(s.serveReload)},
	}
	all = append(all, pageRoutes()...)
	if o.Metrics != nil {
		all = append(all, metricsRoute(o.Metrics))
	}
	if o.Performance.Engine != nil {
		all = append(all, summaryRoute(o.Performance), performanceHealthRoute(o.Performance), troubleshootRoute(o))
	}
	if o.Analysis.Engine != nil {
		all = append(append(all, analysisRoute(o.Analysis)), chartsRoutes(o.Analysis)...)
	}
	if o.Report.Engine != nil {
		all = append(all, reportRoute(o.Report), pastRoute(o.Report))
	}
	if o.Agent.Source != nil {
		all = append(all, agentHealthRoute(o.Agent))
	}
	if o.Requests != nil {
		all = append(all, o.Requests.Route())
	}
	if o.Alerts.Manager != nil {
		all = append(append(all, alertsRoute(o.Alerts)), rulesRoutes(o.Alerts)...)
	}
	if o.API.Engine != nil {
		all = append(all, apiRoutes(o.API)...)
	}
	if o.Performance.Engine != nil {
		all = append(all, dashboardRoutes(&dashboard{o.Performance, o.Agent, o.Alerts, o.Findings, o.Version})...)
	}
	all = append(all, o.Routes...)
	var document object // of all routes, itself among them
	self := Route{Path: "/openapi.json", Summary: "This table, machine-readable.", MediaType: "application/json"}.
		serveJSON(func(map[string]string) (any, error) { return document, nil })
	all = append(all, self)
	document = openAPI(all, o.Version)
	return all
}

// SetReady says whether /-/ready answers 200: probes are attached and exchanges are being counted.
func (s *Server) SetReady(ready bool) { s.ready.Store(ready) }

// Listen checks the web configuration and opens all addresses, or none.
func (s *Server) Listen() error {
	if err := toolkit.Validate(s.options.WebConfigFile); err != nil {
		return fmt.Errorf("web configuration %s: %w", s.options.WebConfigFile, err)
	}
	for _, a := range s.options.Addresses {
		l, err := listen(a, listenFlag, s.options.AllowUnprotected || s.options.Protection != Protection{})
		if err != nil {
			return errors.Join(err, s.Close())
		}
		s.listeners = append(s.listeners, l)
	}
	if err := s.listenHealth(); err != nil {
		return errors.Join(err, s.Close())
	}
	lack := s.options.Protection.lack()
	for _, a := range s.Addresses() {
		if tcp, ok := a.(*net.TCPAddr); ok && !tcp.IP.IsLoopback() && lack != "" {
			s.options.Log.Warn("listening beyond loopback: "+lack, "address", a.String(), "remedy", "TLS and basic_auth_users in --web.config.file")
		}
	}
	return nil
}

// listenFlag is the setting that errors of listening name.
const listenFlag = "--web.listen-address"

// listen opens an address that a flag has named; beyond loopback only if it may be anywhere.
func listen(address, flag string, anywhere bool) (net.Listener, error) {
	if name, ok := strings.CutPrefix(address, "unix:"); ok {
		l, err := ListenSocket(name)
		if errors.Is(err, ErrSocketBusy) {
			return nil, fmt.Errorf("%w; stop it or choose another path with %s", err, flag)
		}
		return l, err
	}
	// Resolved once: what is checked is what is listened on.
	resolved, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w; correct %s", address, err, flag)
	}
	if !anywhere && !resolved.IP.IsLoopback() {
		return nil, fmt.Errorf("listening on %s: everybody who reaches this address could read what this host serves; "+
			"set up TLS and basic auth with --web.config.file, listen on 127.0.0.1 or a unix: socket, or accept it with "+
			"--web.allow-unprotected", address)
	}
	network := "tcp"
	if resolved.IP.To4() != nil {
		network = "tcp4" // Go takes 0.0.0.0 for all addresses of IPv6 as well, which [::] and an empty host are for
	}
	l, err := net.ListenTCP(network, resolved)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("listening on %s: %w; stop that process or choose another port with %s", address, ErrPortBusy, flag)
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("listening on %s: not permitted without CAP_NET_BIND_SERVICE; grant it or choose a port above 1023 with %s", address, flag)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("listening on %s: this host does not have the address; correct %s", address, flag)
	case err != nil:
		return nil, fmt.Errorf("listening on %s: %w; correct %s", address, err, flag)
	}
	return l, nil
}

// Addresses returns what the server listens on, with the ports that were chosen for port 0.
func (s *Server) Addresses() (all []net.Addr) {
	for _, l := range s.listeners {
		all = append(all, l.Addr())
	}
	return all
}

// Close closes the listeners of a server that does not serve; Serve closes them itself.
func (s *Server) Close() error {
	var errs []error
	for _, l := range append(s.listeners, s.health) {
		if l == nil {
			continue
		}
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	s.listeners, s.health = nil, nil
	return errors.Join(errs...)
}

// Serve serves on all addresses until the context ends, then lets requests under way finish for a moment. It returns
// nil when it ended because of the context.
func (s *Server) Serve(ctx context.Context) error {
	var servers []served
	for _, l := range s.listeners {
		server := newHTTPServer(s.hosts.guard(l.Addr(), s.options.Protection, s.handler), s.options.Log, s.questions...)
		servers = append(servers, served{s.options.Gate.guard(l, server, false), server, s.options.WebConfigFile})
	}
	if s.health != nil {
		servers = append(servers, s.servedHealth())
	}
	return serveAll(ctx, servers, s.options.Log)
}

// newHTTPServer returns a server; questions are paths whose POST changes nothing.
func newHTTPServer(h http.Handler, log *slog.Logger, questions ...string) *http.Server {
	return &http.Server{
		Handler: secureHeaders(boundBody(ownPagesOnly(h, questions))), ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: headerBytesMax,
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: streamsMax, MaxReceiveBufferPerConnection: 64 << 10, MaxReceiveBufferPerStream: 16 << 10},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug), // clients that hang up
	}
}

// served is a listener with a server of its own: the toolkit changes the server that it is given.
type served struct {
	listener  net.Listener
	server    *http.Server
	webConfig string // the file with TLS and passwords, "" for neither
}

// serveAll serves until the context ends or one of the servers fails.
func serveAll(ctx context.Context, all []served, log *slog.Logger) error {
	// Requests, streams above all, end with the context.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(all))
	var running sync.WaitGroup
	for i, s := range all {
		s.server.BaseContext = func(net.Listener) context.Context { return ctx }
		running.Go(func() {
			defer cancel() // one that fails takes the others with it
			defer s.listener.Close()
			err := toolkit.Serve(s.listener, s.server, &toolkit.FlagConfig{WebConfigFile: &s.webConfig}, slog.New(chatter{log.Handler()}))
			if !errors.Is(err, http.ErrServerClosed) {
				errs[i] = fmt.Errorf("serving on %s: %w", s.listener.Addr(), err)
			}
		})
	}
	<-ctx.Done()
	deadline, stop := context.WithTimeout(context.Background(), shutdownTimeout)
	defer stop()
	for _, s := range all {
		if err := s.server.Shutdown(deadline); err != nil {
			_ = s.server.Close() // what is left had its time
		}
	}
	running.Wait()
	return errors.Join(errs...)
}

// chatter makes debug of what the toolkit informs about: each address that it listens on, and that it is without TLS.
// The agent says so itself, in one line.
type chatter struct{ slog.Handler }

func (c chatter) lower(level slog.Level) slog.Level {
	if level < slog.LevelWarn {
		return slog.LevelDebug
	}
	return level
}

func (c chatter) Enabled(ctx context.Context, level slog.Level) bool {
	return c.Handler.Enabled(ctx, c.lower(level))
}

func (c chatter) Handle(ctx context.Context, r slog.Record) error {
	r.Level = c.lower(r.Level)
	return c.Handler.Handle(ctx, r)
}

func (c chatter) WithAttrs(attrs []slog.Attr) slog.Handler {
	return chatter{c.Handler.WithAttrs(attrs)}
}
func (c chatter) WithGroup(name string) slog.Handler { return chatter{c.Handler.WithGroup(name)} }

// contentPolicy lets the server's pages use its own scripts, styles, images and answers (event streams are connections, too),
// and nothing of anybody else. A script must be a file of its own type (X-Content-Type-Options): neither what gets into a page as
// text is run, nor an answer that holds what clients sent.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// secureHeaders keeps browsers from guessing types, from framing the pages, and from running what is not the server's.
func secureHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", contentPolicy)
		next.ServeHTTP(w, r)
	})
}

// boundBody bounds how long a client may take for a body.
func boundBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout)) // a connection of net/http has deadlines
		}
		next.ServeHTTP(w, r)
	})
}

// ownPagesOnly refuses what a page of another site lets a browser send (cross-site request forgery), by Sec-Fetch-Site or
// Origin: everything but GET, HEAD and OPTIONS, and questions. Programs send neither header.
func ownPagesOnly(next http.Handler, questions []string) http.Handler {
	protection := http.NewCrossOriginProtection()
	for _, path := range questions {
		protection.AddInsecureBypassPattern(path)
	}
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		problem(w, http.StatusForbidden, r.Method+" is not taken from a page of another site")
	}))
	return protection.Handler(next)
}

func (s *Server) serveHealthy(w http.ResponseWriter, r *http.Request) {
	if allowMethods(w, r, http.MethodGet, http.MethodHead) {
		plain(w, "perfagent is healthy.\n")
	}
}

func (s *Server) serveReady(w http.ResponseWriter, r *http.Request) {
	if !allowMethods(w, r, http.MethodGet, http.MethodHead) {
		return
	}
	if !s.ready.Load() {
		problem(w, http.StatusServiceUnavailable, "probes are not attached yet")
		return
	}
	plain(w, "perfagent is ready.\n")
}

func (s *Server) serveReload(w http.ResponseWriter, r *http.Request) {
	if !allowMethods(w, r, http.MethodPost, http.MethodPut) {
		return
	}
	if s.options.Reload == nil {
		problem(w, http.StatusForbidden, "reloading over HTTP is disabled; --web.enable-lifecycle enables it")
		return
	}
	outcome, err := s.options.Reload()
	if err != nil {
		problem(w, http.StatusInternalServerError, "the configuration was not applied: "+err.Error())
		return
	}
	plain(w, outcome+".\n")
}

func plain(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte(body)) // the client may be gone
}
