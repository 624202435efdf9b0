package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	callTimeout = 5 * time.Second
	bodyBytes   = 64 << 10 // of an answer, at most
)

// caller is how a service calls others.
type caller struct {
	client *http.Client
	needs  map[string]string
}

func newCaller(p *process) *caller {
	// Nothing of the environment: no proxy comes between.
	transport := &http.Transport{MaxIdleConnsPerHost: shoppersMax, IdleConnTimeout: time.Minute, DisableCompression: true}
	return &caller{&http.Client{Transport: transport, Timeout: callTimeout}, p.needs}
}

// statusError is an answer of another service that is no success.
type statusError struct {
	from   string
	status int
}

func (e statusError) Error() string { return fmt.Sprintf("%s answers %d", e.from, e.status) }

// call asks another service on behalf of a request, whose trace goes on.
func (c *caller) call(r *http.Request, method, of, path, body string) (string, error) {
	request, err := http.NewRequestWithContext(r.Context(), method, "http://"+c.needs[of]+path, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	if parent := r.Header.Get("Traceparent"); len(parent) == len(traceparent()) {
		request.Header.Set("Traceparent", parent[:36]+fmt.Sprintf("%016x", rand.Uint64()|1)+parent[52:])
	}
	response, err := c.client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, bodyBytes))
	if err != nil {
		return "", err
	}
	if response.StatusCode >= 400 {
		return "", statusError{of, response.StatusCode}
	}
	return string(data), nil
}

// traceparent begins a trace, as W3C Trace Context has it.
func traceparent() string {
	return fmt.Sprintf("00-%016x%016x-%016x-01", rand.Uint64()|1, rand.Uint64(), rand.Uint64()|1)
}

// handler answers a request with what it returns.
type handler func(r *http.Request) (any, error)

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, err := h(r)
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		// What is not there is not there for whoever asks; any other failure is that of who was asked.
		status, from := http.StatusBadGateway, statusError{}
		if errors.As(err, &from) && (from.from == "" || from.status == http.StatusNotFound) {
			status = from.status
		}
		w.WriteHeader(status)
		answer = map[string]string{"error": err.Error()}
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// serveHTTP answers by routes of http.ServeMux.
func serveHTTP(l *connection, routes map[string]handler) error {
	mux := http.NewServeMux()
	for pattern, h := range routes {
		mux.Handle(pattern, h)
	}
	return (&http.Server{Handler: mux, ReadHeaderTimeout: callTimeout}).Serve(l)
}

// work takes time without a processor, as a disk or a remote party does; the mean is given.
func work(mean time.Duration) {
	time.Sleep(time.Duration(float64(mean) * (0.8 + 0.2*rand.ExpFloat64())))
}

func servePayments(p *process, l *connection) error {
	return serveHTTP(l, map[string]handler{
		"POST /payments": func(*http.Request) (any, error) {
			work(12*time.Millisecond + p.milliseconds(Slow))
			return map[string]any{"id": id(paymentsMax), "state": "accepted"}, nil
		},
		"GET /payments/{id}": func(r *http.Request) (any, error) {
			work(4*time.Millisecond + p.milliseconds(Slow))
			return map[string]string{"id": r.PathValue("id"), "state": "settled"}, nil
		},
	})
}

func serveCatalogue(p *process, l *connection) error {
	calls, cache := newCaller(p), newCacheClient(p.needs[Cache])
	// cached asks the cache, then the database, whose answer it keeps.
	cached := func(r *http.Request, key, path string) (json.RawMessage, error) {
		if rand.Int64N(100) < p.strength[Errors].Load() {
			return nil, statusError{status: http.StatusServiceUnavailable}
		}
		if value, ok := cache.get(key); ok {
			return json.RawMessage(value), nil
		}
		value, err := calls.call(r, http.MethodGet, Database, path, "")
		if err == nil {
			cache.set(key, value)
		}
		return json.RawMessage(value), err
	}
	return serveHTTP(l, map[string]handler{
		"GET /products": func(r *http.Request) (any, error) {
			return cached(r, "products", "/tables/products")
		},
		"GET /products/{id}": func(r *http.Request) (any, error) {
			return cached(r, "product:"+r.PathValue("id"), "/tables/products/"+r.PathValue("id"))
		},
		"GET /search": func(r *http.Request) (any, error) {
			work(8 * time.Millisecond)
			return cached(r, "search", "/tables/products")
		},
	})
}

func serveOrders(p *process, l *connection) error {
	calls := newCaller(p)
	return serveHTTP(l, map[string]handler{
		"POST /orders": func(r *http.Request) (any, error) {
			if _, err := calls.call(r, http.MethodGet, Catalogue, "/products/"+product(), ""); err != nil {
				return nil, err
			}
			if _, err := calls.call(r, http.MethodPost, Payments, "/payments", `{"amount": 42}`); err != nil {
				return nil, err
			}
			order, err := calls.call(r, http.MethodPost, Database, "/tables/orders", `{"state": "paid"}`)
			return json.RawMessage(order), err
		},
		"GET /orders/{id}": func(r *http.Request) (any, error) {
			if _, err := calls.call(r, http.MethodGet, Payments, "/payments/"+id(paymentsMax), ""); err != nil {
				return nil, err
			}
			order, err := calls.call(r, http.MethodGet, Database, "/tables/orders/"+r.PathValue("id"), "")
			return json.RawMessage(order), err
		},
		"GET /users/{id}/orders": func(r *http.Request) (any, error) {
			orders, err := calls.call(r, http.MethodGet, Database, "/tables/users/"+r.PathValue("id")+"/orders", "")
			return json.RawMessage(orders), err
		},
	})
}

func serveFront(p *process, l *connection) error {
	calls := newCaller(p)
	pass := func(to, path string) handler {
		return func(r *http.Request) (any, error) {
			at := strings.ReplaceAll(path, "{id}", r.PathValue("id"))
			answer, err := calls.call(r, r.Method, to, at, map[string]string{http.MethodPost: `{"product": 7}`}[r.Method])
			work(time.Millisecond)
			return json.RawMessage(answer), err
		}
	}
	return serveHTTP(l, map[string]handler{
		"GET /{$}":               pass(Catalogue, "/products"),
		"GET /products/{id}":     pass(Catalogue, "/products/{id}"),
		"GET /search":            pass(Catalogue, "/search"),
		"POST /checkout":         pass(Orders, "/orders"),
		"GET /orders/{id}":       pass(Orders, "/orders/{id}"),
		"GET /users/{id}/orders": pass(Orders, "/users/{id}/orders"),
	})
}

// What there is of each kind, with numbers from 1000 on.
const (
	productsMax = 400
	ordersMax   = 9000
	usersMax    = 2000
	paymentsMax = 9000
	firstID     = 1000
)

func id(n int) string { return strconv.Itoa(firstID + rand.IntN(n)) }

// product is one that people look at: half of them at a tenth of the products.
func product() string {
	if rand.IntN(2) == 0 {
		return id(productsMax / 10)
	}
	return id(productsMax)
}
