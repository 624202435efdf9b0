package top

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	// rowsMax is how many rows of each kind are asked for: as many as an agent has endpoints by default.
	rowsMax = 2000
	// answerTimeout is for one question. An agent that is that slow is as good as gone.
	answerTimeout = 10 * time.Second
	// answerBytesMax bounds an answer; one of rowsMax rows of each kind with long routes is a tenth of it.
	answerBytesMax = 64 << 20
)

// Client reads from one agent.
type Client struct {
	name string // for people
	host string // whose agent it is, where the name of this host is not it
	base *url.URL
	http *http.Client
}

// NewSocketClient reads from an agent's Unix socket.
func NewSocketClient(path string) *Client {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	return &Client{name: inert(path), base: &url.URL{Scheme: "http", Host: "perfagent"}, http: &http.Client{Transport: transport}}
}

// NewURLClient reads from an agent's listen address. The certificates in caFile, if any, are those that its own is checked with; the
// password in passwordFile, if any, is that of the URL's user.
func NewURLClient(text, caFile, passwordFile string) (*Client, error) {
	base, err := url.Parse(text)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Hostname() == "" || base.RawQuery != "" || base.Fragment != "" {
		return nil, errors.New("the value is no URL such as http://127.0.0.1:9464")
	}
	base.Path = strings.TrimRight(base.Path, "/")
	c := &Client{name: inert(base.Host), base: base}
	if address, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(base.Hostname(), "0")); err != nil || !address.IP.IsLoopback() {
		c.host = inert(base.Hostname())
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("read certificates: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no certificate in PEM", caFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	if passwordFile != "" {
		if base.User.Username() == "" {
			return nil, errors.New("a password needs a user: http://USER@HOST:PORT")
		}
		password, err := os.ReadFile(passwordFile)
		if err != nil {
			return nil, fmt.Errorf("read the password: %w", err)
		}
		base.User = url.UserPassword(base.User.Username(), strings.TrimRight(string(password), "\r\n"))
	}
	// Who answers with another place is no agent, and the password is not for it.
	c.http = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return c, nil
}

// Name says for people where the agent is.
func (c *Client) Name() string { return c.name }

// sample is what an agent said at one moment.
type sample struct {
	document
	at    time.Time
	extra *extras
}

// extras are what the local history knows beside the document: the shares of phases and statuses by endpoint.
type extras struct {
	to       time.Time // of the window that they were asked for
	phases   map[string]*phases
	statuses map[string]*statuses
	why      string // why there are none; "" where there are
}

// read asks the agent. What the history knows is asked for again only where a tick of the agent has passed since before, which may be
// nil.
func (c *Client) read(ctx context.Context, length string, before *sample) (*sample, error) {
	s := &sample{}
	query := url.Values{"window": {length}, "limit": {strconv.Itoa(rowsMax)}}
	if err := c.get(ctx, "/dashboard", query, &s.document); err != nil {
		return nil, err
	}
	if s.Version == "" || s.Window.Name == "" {
		return nil, fmt.Errorf("what answers at %s is no agent", c.name)
	}
	s.at = time.Now()
	if before != nil && before.extra != nil && before.Window.equal(s.Window) && before.extra.why == "" {
		s.extra = before.extra
	} else {
		s.extra = c.readExtras(ctx, s.Window)
	}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		e.Phases, e.Statuses = s.extra.phases[e.id()], s.extra.statuses[e.id()]
	}
	return s, nil
}

func (c *Client) readExtras(ctx context.Context, w window) *extras {
	x := &extras{to: w.To, phases: make(map[string]*phases), statuses: make(map[string]*statuses)}
	const by = "service_name, service_namespace, http_request_method, http_route"
	err := c.query(ctx, fmt.Sprintf("sum by (%s, phase) (rate(perfagent_http_server_phase_duration_seconds_sum[%s]))", by, w.Name), x.addPhase)
	if err == nil {
		err = c.query(ctx, fmt.Sprintf("sum by (%s, http_response_status_code) (rate(http_server_request_duration_seconds_count[%s]))", by, w.Name), x.addStatus)
	}
	if err != nil {
		x.why = err.Error()
	}
	for _, p := range x.phases {
		p.toShares()
	}
	for _, st := range x.statuses {
		st.toShares()
	}
	return x
}

// toShares makes percentages of seconds.
func (p *phases) toShares() {
	all, sum := []*float64{p.Queue, p.Processing, p.Transfer}, 0.
	for _, v := range all {
		if v != nil {
			sum += *v
		}
	}
	for _, v := range all {
		if v != nil {
			*v *= 100 / sum // only what is above zero was added
		}
	}
}

// toShares makes percentages of rates.
func (s *statuses) toShares() {
	sum := 0.
	for _, v := range s.Percent {
		sum += v
	}
	for name := range s.Percent {
		s.Percent[name] *= 100 / sum
	}
}

func idOf(labels map[string]string) string {
	e := entry{Namespace: labels["service_namespace"], Service: labels["service_name"], Method: labels["http_request_method"], Route: labels["http_route"]}
	return e.id()
}

func (x *extras) addPhase(labels map[string]string, v float64) {
	id := idOf(labels)
	p := x.phases[id]
	if p == nil {
		p = new(phases)
		x.phases[id] = p
	}
	switch labels["phase"] {
	case "queue":
		p.Queue = &v
	case "processing":
		p.Processing = &v
	case "transfer":
		p.Transfer = &v
	}
}

func (x *extras) addStatus(labels map[string]string, v float64) {
	id := idOf(labels)
	s := x.statuses[id]
	if s == nil {
		s = &statuses{make(map[string]float64)}
		x.statuses[id] = s
	}
	class := "none"
	if code := labels["http_response_status_code"]; code != "" {
		class = code[:1] + "xx"
	}
	s.Percent[class] += v
}

// query asks Prometheus' query API for the present values of an expression.
func (c *Client) query(ctx context.Context, expression string, add func(labels map[string]string, v float64)) error {
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string  `json:"metric"`
				Value  [2]json.RawMessage `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := c.get(ctx, "/api/v1/query", url.Values{"query": {expression}}, &answer); err != nil {
		return err
	}
	for _, r := range answer.Data.Result {
		var text string
		if err := json.Unmarshal(r.Value[1], &text); err != nil {
			continue
		}
		if v, err := strconv.ParseFloat(text, 64); err == nil && v > 0 {
			add(r.Metric, v)
		}
	}
	return nil
}

func (c *Client) get(ctx context.Context, path string, query url.Values, to any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout, fmt.Errorf("no answer within %s", answerTimeout))
	defer cancel()
	where := *c.base
	where.Path += path
	where.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, where.String(), nil)
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return shorten(ctx, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return refusal(response, path)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, answerBytesMax))
	if err != nil {
		return shorten(ctx, err)
	}
	if err := json.Unmarshal(body, to); err != nil {
		return fmt.Errorf("what answers at %s is no agent: %w", c.name, err)
	}
	return nil
}

// shorten leaves of an error of net/http what happened: the question is no news.
func shorten(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if asked := (*url.Error)(nil); errors.As(err, &asked) {
		err = asked.Err
	}
	if dialled := (*net.OpError)(nil); errors.As(err, &dialled) && dialled.Op == "dial" {
		if called := (*os.SyscallError)(nil); errors.As(dialled.Err, &called) {
			return called.Err
		}
		return dialled.Err
	}
	return err
}

// refusal says what an answer that is none means.
func refusal(response *http.Response, path string) error {
	body, _ := io.ReadAll(io.LimitReader(response.Body, 4096))
	var problem struct {
		Detail string `json:"detail"`
		Error  string `json:"error"`
	}
	_ = json.Unmarshal(body, &problem) // a page of somebody else has neither
	switch {
	case response.StatusCode == http.StatusUnauthorized:
		return errors.New("the agent asks for a password: --web.url=http://USER@HOST:PORT and --web.password-file")
	case response.StatusCode == http.StatusNotFound:
		return fmt.Errorf("what answers does not serve %s: it is older than this command, or no agent", path)
	case strings.Contains(string(body), "HTTPS server"):
		return errors.New("it takes TLS only: name it with --web.url=https://HOST:PORT")
	case problem.Detail+problem.Error != "":
		return fmt.Errorf("the agent answers %s: %s", response.Status, inert(problem.Detail+problem.Error))
	}
	return fmt.Errorf("the answer is %s", response.Status)
}
