package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// answerBytesMax is what is read of an answer: enough for a receiver to say what it does not like.
	answerBytesMax = 4 << 10
	// answerShownMax is what of it an error shows.
	answerShownMax = 200
	headerBytesMax = 64 << 10
	dialTimeout    = 10 * time.Second
)

// poster sends JSON by HTTP. It follows no redirect: an alert, and what it is authorized with, go where the configuration says.
type poster struct {
	files files
	agent string // User-Agent
}

// posting is one request.
type posting struct {
	endpoint *Endpoint
	address  string
	document any
	headers  func(http.Header, []byte) error // further ones, of the body; nil: none
	secrets  []string                        // in the document: an answer that repeats them is not shown so
}

// post returns nil where the answer is 2xx.
func (p *poster) post(ctx context.Context, o posting) error {
	body, err := json.Marshal(o.document)
	if err != nil {
		return permanently(fmt.Errorf("encode the notification: %w", err))
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, o.address, bytes.NewReader(body))
	if err != nil {
		return permanently(errors.New("make the request: the URL is none"))
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", p.agent)
	credential, err := p.authorize(request, o.endpoint)
	if err != nil {
		return err
	}
	if o.headers != nil {
		if err := o.headers(request.Header, body); err != nil {
			return err
		}
	}
	client, err := p.client(o.endpoint)
	if err != nil {
		return err
	}
	hidden := append(append(secretsOf(request), credential), o.secrets...)
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("post to %s: %w", masked(request.URL), hiding{unaddressed(err), hidden})
	}
	defer response.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(response.Body, answerBytesMax))
	shown := withoutSecrets(string(answer), hidden)
	if len(answer) == answerBytesMax { // its end may be the beginning of a secret, which is not known as one
		shown = shown[:max(0, len(shown)-longest(hidden))]
	}
	return judge(request.URL, response, shown)
}

// authorize returns the credential that it puts into the request, "" for none. One that stands in the URL becomes a header, as Go's client
// would make it one behind our back, and a URL without it is what errors are made of.
func (p *poster) authorize(request *http.Request, e *Endpoint) (credential string, err error) {
	if user := request.URL.User; user != nil {
		credential, _ = user.Password()
		request.SetBasicAuth(user.Username(), credential)
		request.URL.User = nil
	}
	if e.PasswordFile != "" {
		if credential, err = p.files.secret(e.PasswordFile); err != nil {
			return "", err
		}
		request.SetBasicAuth(e.Username, credential)
	}
	if e.TokenFile != "" {
		if credential, err = p.files.secret(e.TokenFile); err != nil {
			return "", err
		}
		request.Header.Set("Authorization", "Bearer "+credential)
	}
	return credential, nil
}

// secretBytesMin is the least length of a part of a URL that is hidden as a secret: shorter ones are words such as "services".
const secretBytesMin = 9

// secretsOf returns what of a request may be a secret: its credentials in each form, and what its URL has behind the host.
func secretsOf(request *http.Request) []string {
	secrets := []string{request.URL.RequestURI(), request.URL.Path}
	if _, encoded, ok := strings.Cut(request.Header.Get("Authorization"), " "); ok {
		secrets = append(secrets, encoded)
	}
	if user, password, ok := request.BasicAuth(); ok {
		secrets = append(secrets, user+":"+password, password)
		if password == "" { // a token without one
			secrets = append(secrets, user)
		}
	}
	for part := range strings.SplitSeq(request.URL.EscapedPath(), "/") {
		if len(part) >= secretBytesMin {
			secrets = append(secrets, part)
		}
	}
	for _, values := range request.URL.Query() {
		secrets = append(secrets, values...)
	}
	return secrets
}

// credentialsOfURL are those of any URL, such as a proxy's.
var credentialsOfURL = regexp.MustCompile(`://[^/@\s"]+@`)

// withoutSecrets hides what a text repeats of a request, also as JSON, HTML and URLs write it.
func withoutSecrets(text string, secrets []string) string {
	secrets = slices.Clone(secrets)
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) }) // one may be a part of another
	for _, secret := range secrets {
		if len(secret) <= 1 { // a path may be "/"
			continue
		}
		quoted, _ := json.Marshal(secret) // of a text it does not fail
		inJSON := string(quoted[1 : len(quoted)-1])
		for _, form := range []string{secret, inJSON, strings.ReplaceAll(inJSON, "/", `\/`), html.EscapeString(secret), url.QueryEscape(secret), url.PathEscape(secret)} {
			text = strings.ReplaceAll(text, form, "…")
		}
	}
	return credentialsOfURL.ReplaceAllString(text, "://…@")
}

// longest is the length of the longest text, in the form that is longest.
func longest(texts []string) (n int) {
	const encoded = 3 // bytes of one, as URLs write them
	for _, text := range texts {
		n = max(n, encoded*len(text))
	}
	return n
}

// hiding is an error that is shown without secrets.
type hiding struct {
	error
	secrets []string
}

func (h hiding) Error() string { return withoutSecrets(h.error.Error(), h.secrets) }
func (h hiding) Unwrap() error { return h.error }

// client is made for each request: there are few, certificates may have been renewed, and no connection waits for the next.
func (p *poster) client(e *Endpoint) (*http.Client, error) {
	pool, err := p.files.pool(e.CAFile)
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true
	transport.MaxResponseHeaderBytes = headerBytesMax
	transport.TLSHandshakeTimeout = dialTimeout
	transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// masked is what of a URL may be shown: paths and queries hold the secrets of Slack and others.
func masked(u *url.URL) string {
	s := u.Scheme + "://" + u.Host
	if u.Path != "" && u.Path != "/" || u.RawQuery != "" {
		s += "/…"
	}
	return s
}

// unaddressed takes the URL out of an error.
func unaddressed(err error) error {
	var with *url.Error
	if errors.As(err, &with) {
		return with.Err
	}
	return err
}

// judge tells what an answer means. A receiver that has no time (429, 408, 5xx) is asked again, one that does not want it is not.
func judge(u *url.URL, response *http.Response, answer string) error {
	status := response.StatusCode
	if status >= 200 && status < 300 {
		return nil
	}
	text := cut(oneLine(answer), answerShownMax)
	if strings.TrimSpace(text) != "" {
		text = ": " + text
	}
	if status >= 300 && status < 400 {
		text = ": redirects are not followed"
	}
	failure := deliveryError{err: fmt.Errorf("post to %s: %s%s", masked(u), http.StatusText(status)+" ("+strconv.Itoa(status)+")", text)}
	failure.after = retryAfter(response.Header.Get("Retry-After"), time.Now())
	failure.permanent = status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests
	return failure
}

// retryAfter reads RFC 9110, 10.2.3: seconds or a date.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}

// oneLine is inert, without lines: it forges none of a log or a message.
func oneLine(s string) string { return strings.Map(inert, strings.ToValidUTF8(s, "�")) }
