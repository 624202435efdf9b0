package export

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/perfagent/perfagent/internal/analytics"
)

const (
	// OTLPIntervalDefault is the conventions' interval of a periodic reader.
	OTLPIntervalDefault = time.Minute
	// otlpTimeout is the specification's bound on one attempt.
	otlpTimeout = 10 * time.Second
	// otlpFlushTimeout bounds the last export of an agent that stops: nobody waits longer for a receiver that is gone.
	otlpFlushTimeout = 2 * time.Second
	// Pauses between attempts double from the first to the last, each with a random part, so that a fleet does not return
	// to a receiver all at once.
	otlpPauseMin = time.Second
	otlpPauseMax = 30 * time.Second
	// otlpAnswerBytes is what is read of an answer; it is a short message.
	otlpAnswerBytes = 64 << 10
	// otlpReasonBytes is what is logged of a receiver's words.
	otlpReasonBytes = 256
)

// OTLPOptions configures an OTLPExporter.
type OTLPOptions struct {
	// CollectorOptions is what is exported: the source's histograms, the levels of endpoints, the host's metrics, and the agent's own.
	CollectorOptions
	// Endpoint is the URL that is posted to, with its path.
	Endpoint string
	// Interval is the time between two exports; 0 means OTLPIntervalDefault.
	Interval time.Duration
	// Header is sent with every request.
	Header http.Header
	// CAFile holds the certificates, in PEM, that the endpoint's is checked with; empty: the system's.
	CAFile string
	// Host is host.name and service.instance.id; empty: neither.
	Host string
	// Transport sends requests; nil: HTTP, with the proxy of the environment.
	Transport http.RoundTripper
	Log       *slog.Logger // nil: silent
	// Works is told whether exports are taken, at each change; nil: nobody is.
	Works func(works bool)
}

// ExportCount is how many exports ended in one way.
type ExportCount struct {
	Result string
	Count  uint64
}

// otlpResult is how an export ended.
type otlpResult int

const (
	otlpSuccess otlpResult = iota
	otlpPartial            // the receiver took the request and refused some of its data points
	otlpRejected
	otlpSuperseded // not taken before the next one was due
	otlpResults
)

func (r otlpResult) String() string {
	return [otlpResults]string{"success", "partial_success", "rejected", "superseded"}[r]
}

// OTLPExporter posts snapshots to an OTLP/HTTP receiver, in protobuf and gzip. Histograms are cumulative, so the newest
// snapshot holds all that an older one did: nothing is queued, and what was not taken by the next interval is superseded.
type OTLPExporter struct {
	endpoint string
	interval time.Duration
	header   http.Header
	client   *http.Client
	source   Source
	pinned   pinnedSource // what own reads
	own      *prometheus.Registry
	encoder  otlpEncoder
	zipped   bytes.Buffer
	log      *slog.Logger
	works    func(works bool)

	notBefore time.Time // the receiver asked for this much patience
	// Kinds of trouble that were logged: failures since the latest success, and what partial successes said. Both are
	// bounded by the number of status codes.
	failing, said map[string]bool
	counts        [otlpResults]atomic.Uint64
}

// pinnedSource makes the agent's own metrics those of the snapshot that is exported. The exporter's goroutine owns it.
type pinnedSource struct{ snapshot *analytics.Snapshot }

func (p *pinnedSource) Snapshot() *analytics.Snapshot { return p.snapshot }

// NewOTLPExporter returns an exporter that Run starts. It fails where the CA file holds no certificate.
func NewOTLPExporter(o OTLPOptions) (*OTLPExporter, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Works == nil {
		o.Works = func(bool) {}
	}
	if o.Interval == 0 {
		o.Interval = OTLPIntervalDefault
	}
	if o.Transport == nil {
		transport, err := otlpTransport(o.CAFile)
		if err != nil {
			return nil, err
		}
		o.Transport = transport
	}
	e := &OTLPExporter{
		endpoint: o.Endpoint, interval: o.Interval, header: o.Header.Clone(), source: o.Source, own: prometheus.NewRegistry(),
		encoder: otlpEncoder{host: o.Host, version: o.Build.Version, start: time.Now()}, log: o.Log, works: o.Works, failing: map[string]bool{}, said: map[string]bool{},
		// A redirect would turn the POST into a GET, and a page's 200 into a success.
		client: &http.Client{Transport: o.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
	if e.header == nil {
		e.header = http.Header{}
	}
	e.header.Set("Content-Type", "application/x-protobuf")
	e.header.Set("Content-Encoding", "gzip")
	e.header.Set("User-Agent", "perfagent/"+o.Build.Version)
	own := o.CollectorOptions
	own.Source, own.Exports = &e.pinned, e.Exports
	for _, c := range []prometheus.Collector{agentCollector{own}, hostCollector{o.CollectorOptions.Host}, levelCollector{&e.pinned}} {
		if err := e.own.Register(c); err != nil {
			return nil, fmt.Errorf("registering metrics: %w", err)
		}
	}
	return e, nil
}

func otlpTransport(caFile string) (http.RoundTripper, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns, transport.MaxConnsPerHost = 1, 1
	if caFile == "" {
		return transport, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("reading the CA file of the OTLP endpoint: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("the CA file of the OTLP endpoint, %s, holds no certificate in PEM", caFile)
	}
	transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	return transport, nil
}

// Exports tells how the exports so far ended. It may be called from any goroutine.
func (e *OTLPExporter) Exports() []ExportCount {
	all := make([]ExportCount, otlpResults)
	for r := range otlpResults {
		all[r] = ExportCount{r.String(), e.counts[r].Load()}
	}
	return all
}

// Endpoint returns where metrics are posted to, without the query and the credentials of its URL.
func (e *OTLPExporter) Endpoint() string {
	u, err := url.Parse(e.endpoint)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host + u.Path
}

// Run exports at every interval until the context ends, and then once more.
func (e *OTLPExporter) Run(ctx context.Context) {
	defer e.client.CloseIdleConnections()
	ticks := time.NewTicker(e.interval)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			// The last exchanges, in one attempt.
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), otlpFlushTimeout)
			defer cancel()
			e.export(last, 1)
			return
		case <-ticks.C:
			until, cancel := context.WithTimeout(ctx, e.interval)
			e.export(until, 0)
			cancel()
		}
	}
}

// export sends the present snapshot, within the context and the number of attempts (0: any).
func (e *OTLPExporter) export(ctx context.Context, attempts int) {
	result := otlpSuperseded
	if attempts == 1 || !time.Now().Before(e.notBefore) {
		result = e.sendSnapshot(ctx, attempts)
	}
	e.counts[result].Add(1)
	if len(e.failing) > 0 {
		e.works(false)
	}
	if (result == otlpSuccess || result == otlpPartial) && len(e.failing) > 0 {
		e.works(true)
		e.log.Info("OTLP export works again", "endpoint", e.Endpoint())
		clear(e.failing)
	}
}

// otlpError is an attempt that did not succeed.
type otlpError struct {
	kind   string // for logging each kind once
	reason string
	again  bool          // another attempt may succeed
	after  time.Duration // not before, as the receiver asks; 0: as one likes
}

func (e *otlpError) Error() string { return e.kind + ": " + e.reason }

func (e *OTLPExporter) sendSnapshot(ctx context.Context, attempts int) otlpResult {
	e.pinned.snapshot = e.source.Snapshot()
	defer func() { e.pinned.snapshot = nil }()
	own, err := e.own.Gather()
	if err != nil {
		e.say(e.failing, "gather", err.Error())
		if len(own) == 0 {
			return otlpRejected
		}
	}
	partial := false
	err = e.encoder.encode(e.pinned.snapshot, own, func(body []byte) error {
		refused, err := e.deliver(ctx, body, attempts)
		partial = partial || refused
		return err
	})
	var failed *otlpError
	switch {
	case errors.As(err, &failed) && failed.again, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return otlpSuperseded
	case err != nil:
		return otlpRejected
	case partial:
		return otlpPartial
	}
	return otlpSuccess
}

// deliver posts one request until it is taken, refused for good, or the context would end during the next pause. It tells
// whether data points were refused.
func (e *OTLPExporter) deliver(ctx context.Context, body []byte, attempts int) (refused bool, err error) {
	if len(body) == 0 {
		return false, nil
	}
	if err := e.zip(body); err != nil {
		return false, err
	}
	for attempt, pause := 1, otlpPauseMin; ; attempt, pause = attempt+1, min(2*pause, otlpPauseMax) {
		refused, failed := e.post(ctx)
		if failed == nil {
			return refused, nil
		}
		if ctx.Err() == nil || !failed.again {
			e.say(e.failing, failed.kind, failed.reason)
		}
		wait := max(pause/2+rand.N(pause), failed.after)
		e.notBefore = time.Now().Add(failed.after)
		deadline, _ := ctx.Deadline()
		if !failed.again || attempt == attempts || time.Until(deadline) < wait {
			return false, failed
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(wait):
		}
	}
}

func (e *OTLPExporter) zip(body []byte) error {
	z := gzips.Get().(*gzip.Writer)
	defer gzips.Put(z)
	e.zipped.Reset()
	z.Reset(&e.zipped)
	if _, err := z.Write(body); err != nil {
		return fmt.Errorf("compressing metrics: %w", err)
	}
	return z.Close()
}

// post makes one attempt with what was compressed.
func (e *OTLPExporter) post(ctx context.Context) (refused bool, _ *otlpError) {
	ctx, cancel := context.WithTimeout(ctx, otlpTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, e.endpoint, bytes.NewReader(e.zipped.Bytes()))
	if err != nil {
		return false, &otlpError{kind: "request", reason: err.Error()}
	}
	request.Header = e.header
	response, err := e.client.Do(request)
	if err != nil {
		if whole := (*url.Error)(nil); errors.As(err, &whole) {
			err = whole.Err // without the URL, which may hold credentials
		}
		return false, &otlpError{kind: "unreachable", reason: err.Error(), again: true}
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, otlpAnswerBytes))
	switch status := response.StatusCode; {
	case status < 200 || status > 299:
		return false, refusal(response, answer)
	case err != nil:
		return false, &otlpError{kind: "answer", reason: err.Error(), again: true}
	}
	rejected, message := parsePartialSuccess(answer)
	if rejected > 0 {
		e.say(e.said, "data points refused", fmt.Sprintf("%d data points: %s", rejected, message))
	} else if message != "" {
		e.say(e.said, "warning", message)
	}
	return rejected > 0, nil
}

// refusal turns an HTTP status into what to do next: the specification names the four that may be tried again.
func refusal(response *http.Response, answer []byte) *otlpError {
	e := &otlpError{kind: "status " + strconv.Itoa(response.StatusCode), reason: parseStatusMessage(answer)}
	switch response.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		e.again, e.after = true, retryAfter(response.Header.Get("Retry-After"))
	}
	return e
}

// retryAfterMax bounds what a receiver may ask for; a wrong clock must not silence the agent for good.
const retryAfterMax = time.Hour

// retryAfter reads seconds or a date (RFC 9110, section 10.2.3); 0 where it is neither.
func retryAfter(text string) time.Duration {
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, retryAfterMax)
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(time.Until(at), 0), retryAfterMax)
	}
	return 0
}

// say logs a kind of trouble once.
func (e *OTLPExporter) say(said map[string]bool, kind, reason string) {
	if said[kind] {
		return
	}
	said[kind] = true
	e.log.Warn("OTLP export: "+kind, "endpoint", e.Endpoint(), "reason", cutReason(reason))
}

func cutReason(s string) string { return s[:min(len(s), otlpReasonBytes)] }

// parsePartialSuccess reads an ExportMetricsServiceResponse: how many data points were rejected, and what the receiver
// says of it. Of bytes that are no such message it returns what stands before the mistake.
func parsePartialSuccess(b []byte) (rejected int64, message string) {
	eachField(b, func(field protowire.Number, _ uint64, partial []byte) {
		if field != 1 || partial == nil {
			return
		}
		eachField(partial, func(field protowire.Number, n uint64, text []byte) {
			switch {
			case field == 1 && text == nil:
				rejected = max(int64(n), 0)
			case field == 2 && text != nil:
				message = string(text)
			}
		})
	})
	return rejected, message
}

// parseStatusMessage reads the message of a google.rpc.Status, which answers are that refuse.
func parseStatusMessage(b []byte) (message string) {
	eachField(b, func(field protowire.Number, _ uint64, text []byte) {
		if field == 2 && text != nil {
			message = string(text)
		}
	})
	return message
}

// eachField calls yield for the numbers and the byte strings of a message, until its end or a mistake. text is nil for
// a number.
func eachField(b []byte, yield func(field protowire.Number, n uint64, text []byte)) {
	for len(b) > 0 {
		field, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return
		}
		b = b[n:]
		switch kind {
		case protowire.VarintType:
			v, size := protowire.ConsumeVarint(b)
			if n = size; n >= 0 {
				yield(field, v, nil)
			}
		case protowire.BytesType:
			v, size := protowire.ConsumeBytes(b)
			if n = size; n >= 0 {
				yield(field, 0, v[:len(v):len(v)])
			}
		default:
			n = protowire.ConsumeFieldValue(field, kind, b)
		}
		if n < 0 {
			return
		}
		b = b[n:]
	}
}
