package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// A service has between rateMin and rateMax requests a second, at random moments: some 40 in a tick.
	rateMin, rateMax = 60, 100
	// newConnectionShare is of requests that come over a new connection.
	newConnectionShare = 0.1
	// requestTimeout is when clients give up.
	requestTimeout = 10 * time.Second
	// waitingMax bounds the requests under way: a client that finds more is turned away.
	waitingMax = 400
)

// load is what clients ask for.
type load struct {
	front   string
	rate    float64
	factor  atomic.Pointer[float64]
	weights [4]float64

	kept, fresh  http.Client
	sent, failed atomic.Int64
	places       chan struct{}
	done         sync.WaitGroup
}

// startLoad sends requests until the context ends: at a rate and of a mix by chance.
func startLoad(ctx context.Context, front string, random *rand.Rand) *load {
	l := &load{front: "http://" + front, rate: rateMin + random.Float64()*(rateMax-rateMin), places: make(chan struct{}, waitingMax)}
	l.factor.Store(new(1.0))
	for i, w := range []float64{.2, .4, .2, .2} {
		l.weights[i] = w * (.7 + .6*random.Float64())
	}
	l.kept = http.Client{Timeout: requestTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	l.fresh = http.Client{Timeout: requestTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	l.done.Go(func() { l.run(ctx) })
	return l
}

// run sends at random moments, whoever has answered.
func (l *load) run(ctx context.Context) {
	next := time.Now()
	for {
		next = next.Add(time.Duration(rand.ExpFloat64() / (l.rate * *l.factor.Load()) * float64(time.Second)))
		if !pauseFor(ctx, time.Until(next)) {
			break
		}
		select {
		case l.places <- struct{}{}:
			l.done.Go(func() { l.send(ctx); <-l.places })
		default:
			l.failed.Add(1)
		}
	}
	l.kept.CloseIdleConnections()
}

func (l *load) send(ctx context.Context) {
	l.sent.Add(1)
	method, path, body := l.pick()
	request, err := http.NewRequestWithContext(ctx, method, l.front+path, body)
	if err != nil {
		panic(err)
	}
	client := &l.kept
	if rand.Float64() < newConnectionShare {
		client = &l.fresh
	}
	response, err := client.Do(request)
	if err == nil {
		_, err = io.Copy(io.Discard, response.Body)
		response.Body.Close()
	}
	if err != nil && ctx.Err() == nil || err == nil && response.StatusCode >= 500 {
		l.failed.Add(1)
	}
}

// pick chooses what to ask for.
func (l *load) pick() (method, path string, body io.Reader) {
	at := rand.Float64() * (l.weights[0] + l.weights[1] + l.weights[2] + l.weights[3])
	i := 0
	for ; i < 3 && at > l.weights[i]; i++ {
		at -= l.weights[i]
	}
	switch i {
	case 0:
		return http.MethodGet, "/", nil
	case 1:
		return http.MethodGet, fmt.Sprintf("/items/%d", rand.IntN(100000)), nil
	case 2:
		return http.MethodGet, "/search?q=tea", nil
	}
	return http.MethodPost, "/orders", strings.NewReader(`{"item": 42}`)
}

// rateOf is how often the i-th of what pick chooses from is asked for, a second.
func (l *load) rateOf(i int) float64 {
	return l.rate * l.weights[i] / (l.weights[0] + l.weights[1] + l.weights[2] + l.weights[3])
}

// setFactor multiplies the rate.
func (l *load) setFactor(f float64) { l.factor.Store(&f) }

func (l *load) counts() (sent, failed int64) { return l.sent.Load(), l.failed.Load() }

func (l *load) wait() { l.done.Wait() }
