package demo

import (
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
)

const (
	requestsPerSecond = 50
	shoppersMax       = 40 // requests at a time; more are left out, not kept for later
)

// visit is a request that shoppers make, so often among 200.
type visit struct {
	of     int
	method string
	path   func() string
}

var visits = []visit{
	{40, http.MethodGet, func() string { return "/" }},
	{80, http.MethodGet, func() string { return "/products/" + product() }},
	{20, http.MethodGet, func() string { return "/search?q=" + []string{"tea", "coffee", "cocoa"}[rand.IntN(3)] }},
	{23, http.MethodGet, func() string { return "/orders/" + id(ordersMax) }},
	{12, http.MethodGet, func() string { return "/users/" + id(usersMax) + "/orders" }},
	{24, http.MethodPost, func() string { return "/checkout" }},
	{1, http.MethodGet, func() string { return "/products/" + id(1) + "999" }}, // one that is sold no more
}

// pick chooses a visit by how often it is made.
func pick(n int) visit {
	for _, v := range visits {
		if n -= v.of; n < 0 {
			return v
		}
	}
	return visits[0]
}

// visitsOf is the sum of how often.
const visitsOf = 200

// shop makes requests at an even rate, whatever becomes of them, from when it may until the process ends.
func (p *process) shop() {
	<-p.open
	calls, inside := newCaller(p), make(chan struct{}, shoppersMax)
	for range time.Tick(time.Second / requestsPerSecond) {
		select {
		case inside <- struct{}{}:
			go func() {
				defer func() { <-inside }()
				calls.visit(pick(rand.IntN(visitsOf)))
			}()
		default:
		}
	}
}

func (c *caller) visit(v visit) {
	body := map[string]string{http.MethodPost: `{"product": 7}`}[v.method]
	request, err := http.NewRequest(v.method, "http://"+c.needs[Front]+v.path(), strings.NewReader(body))
	if err != nil {
		return
	}
	request.Header.Set("Traceparent", traceparent())
	request.Header.Set("User-Agent", "perfagent-demo")
	response, err := c.client.Do(request)
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, bodyBytes))
	_ = response.Body.Close()
}
