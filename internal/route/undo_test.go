package route

import (
	"fmt"
	"strings"
	"testing"
)

// What was taken for values becomes words again, for each reason that undo knows: one word among several things that comes over
// and over, one that looks like an identifier, one that has most of the requests of its place, a version that is a number,
// alone, further below, and among the numbers of scanners. A single user stays a name.
func TestLearnerTakesBack(t *testing.T) {
	for _, tt := range []struct {
		name        string
		path        func(i int) string
		asked       string
		soon, later string // after 20 requests, and after 600
	}{
		{"one of several things", func(int) string { return "/api/widgets/frobnitz" }, "/api/widgets/frobnitz", "/api/widgets/{name}", "/api/widgets/frobnitz"},
		{"three words for many requests", func(i int) string {
			if i < 13 || i > 90 {
				return "/healthz"
			}
			return "/api/reports/" + []string{"zorp-order", "blib-user", "krum-team"}[i%3]
		}, "/api/reports/zorp-order", "/api/reports/{name}", "/api/reports/zorp-order"},
		{"a version further below", func(i int) string { return "/shop/eu/rest/3/" + []string{"orders", "users"}[i%2] }, "/shop/eu/rest/3/users", "/shop/eu/rest/{id}/users", "/shop/eu/rest/3/users"},
		{"most of the requests", func(i int) string {
			if i%10 > 2 {
				return "/shop/articles/frobnitz"
			}
			return "/shop/articles/" + single.make(nil, i)
		}, "/shop/articles/frobnitz", "/shop/articles/{name}", "/shop/articles/frobnitz"},
		{"a version", func(i int) string { return "/rest/3/" + []string{"orders", "users"}[i%2] }, "/rest/3/users", "", "/rest/3/users"},
		{"a version among numbers", func(i int) string {
			if i%5 == 4 {
				return fmt.Sprintf("/rest/%d/index", 1000+i)
			}
			return "/rest/3/" + []string{"orders", "users"}[i%2]
		}, "/rest/3/users", "/rest/{id}/users", "/rest/3/users"},
		{"a user", func(int) string { return "/api/users/frobnitz" }, "/api/users/frobnitz", "/api/users/{name}", "/api/users/{name}"},
	} {
		l := NewLearner()
		for i := range 600 {
			got := string(l.Learn(nil, "GET", []byte(tt.path(i)), 200, 1))
			if i == 20 && tt.soon != "" {
				if got = string(l.Learn(nil, "GET", []byte(tt.asked), 200, 1)); got != tt.soon {
					t.Errorf("%s: soon %s, want %s", tt.name, got, tt.soon)
				}
			}
		}
		if got := string(l.Learn(nil, "GET", []byte(tt.asked), 200, 1)); got != tt.later {
			t.Errorf("%s: later %s, want %s", tt.name, got, tt.later)
		}
	}
}

// The same requests lead to the same templates at every moment, whatever the order in which Go walks over maps.
func TestLearnerIsDeterministic(t *testing.T) {
	for i := range kinds {
		k := &kinds[i]
		requests := k.stream(uint64(i), 1500, 0.1)
		var first []string
		for run := range 3 {
			l := NewLearner()
			for j, q := range requests {
				got := string(l.Learn(nil, "GET", []byte(q.path), uint16(200+204*(j%29/28)), 1))
				if run == 0 {
					first = append(first, got)
				} else if got != first[j] {
					t.Fatalf("%s, request %d: %s became %s, then %s", k.name, j, q.path, first[j], got)
				}
			}
		}
	}
}

// A first request that was refused, as of an application that is starting, goes over to the route that its path has later, also
// with others that end up in the same; what stands for several routes stays.
func TestLearnerReveals(t *testing.T) {
	l := NewLearner()
	if got := string(l.Learn(nil, "GET", []byte("/frobnitz"), 503, 1)); got != "/frobnitz" {
		t.Errorf("an error: %s", got)
	}
	l.Learn(nil, "GET", []byte("/blorg"), 404, 1)
	epoch := l.Epoch()
	if got := string(l.Current(nil, "/*")); got != "/*" {
		t.Errorf("at first: %s", got)
	}
	l.Learn(nil, "GET", []byte("/blorg"), 200, 1)
	if got := string(l.Current(nil, "/*")); got != "/blorg" || l.Epoch() == epoch {
		t.Errorf("one path: %s", got)
	}
	l.Learn(nil, "GET", []byte("/item/7"), 404, 1)
	l.Learn(nil, "GET", []byte("/item/8"), 404, 1)
	if got := string(l.Current(nil, "/*")); got != "/*" {
		t.Errorf("others: %s", got)
	}
	l.Learn(nil, "GET", []byte("/item/7"), 200, 1)
	if got := string(l.Current(nil, "/*")); got != "/item/{id}" {
		t.Errorf("two of one route: %s", got)
	}
	l.Learn(nil, "GET", []byte("/x/1"), 404, 1)
	l.Learn(nil, "GET", []byte("/y/1"), 404, 1)
	l.Learn(nil, "GET", []byte("/x/1"), 200, 1)
	l.Learn(nil, "GET", []byte("/y/1"), 200, 1)
	if got := string(l.Current(nil, "/*")); got != "/*" {
		t.Errorf("two routes: %s", got)
	}
	for i := range 100 {
		l.Learn(nil, "GET", []byte("/"+strings.Repeat("z", 1+i)), 404, 1)
	}
	if got := string(l.Current(nil, "/*")); got != "/*" {
		t.Errorf("many: %s", got)
	}
}
