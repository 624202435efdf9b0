package trace

import (
	"errors"
	"net/url"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	perfhttp "github.com/perfagent/perfagent/internal/http"
	"github.com/perfagent/perfagent/internal/wire"
	"github.com/perfagent/perfagent/internal/wire/wiretest"
)

func TestFilter(t *testing.T) {
	ok, failed, client := exchange(), exchange(), clientExchange()
	failed.Outcome, failed.Finished = perfhttp.CutOff(wire.ClassAborted, 0), 0
	for _, c := range []struct {
		filter             Filter
		ok, failed, client bool
	}{
		{Filter{}, true, true, true},
		{Filter{Slower: 2 * time.Millisecond}, true, false, true},
		{Filter{Slower: 3 * time.Millisecond}, false, false, false},
		{Filter{Status: []string{"200"}}, true, false, false},
		{Filter{Status: []string{"5xx", "aborted"}}, false, true, true},
		{Filter{Status: []string{"error"}}, false, true, true},
		{Filter{Services: []string{"shop"}}, true, true, true},
		{Filter{Services: []string{"x", "s*"}}, true, true, true},
		{Filter{Services: []string{"x", "y,z"}}, false, false, false},
	} {
		if err := c.filter.Validate(); err != nil {
			t.Errorf("%+v: %v", c.filter, err)
		}
		if a, b, d := c.filter.Match(ok), c.filter.Match(failed), c.filter.Match(client); a != c.ok || b != c.failed || d != c.client {
			t.Errorf("%+v: %v %v %v", c.filter, a, b, d)
		}
	}
	for _, f := range []Filter{{Slower: -1}, {Status: []string{"20"}}, {Status: []string{"xx5"}}, {Status: []string{"+12"}}, {Services: []string{"["}}, {Status: []string{"6xx"}}, {Status: []string{"099"}}, {Status: []string{""}}} {
		if f.Validate() == nil {
			t.Errorf("%+v is accepted", f)
		}
	}
}

func TestQuery(t *testing.T) {
	q := Query{Filter{time.Second, []string{"404", "5xx"}, []string{"a*", "b,c"}}, 7, true}
	back, err := ParseQuery(q.Values())
	if err != nil || !reflect.DeepEqual(back, q) {
		t.Errorf("%+v, %v", back, err)
	}
	if v, _ := url.ParseQuery("status=5XX,+aborted&status=404"); !slices.Equal(SplitStatus(v["status"]), []string{"5xx", "aborted", "404"}) {
		t.Errorf("%q", SplitStatus(v["status"]))
	}
	for _, bad := range []string{"slower=x", "limit=-1", "limit=x", "slower=-1s", "status=x", "status=", "raw_paths=2", "other=1"} {
		v, _ := url.ParseQuery(bad)
		if _, err := ParseQuery(v); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}

// A slow subscriber loses what does not fit, and only it; the numbers add up.
func TestHubSlowSubscriber(t *testing.T) {
	var hub Hub
	slow, err := hub.Subscribe(Filter{}, 3)
	if err != nil {
		t.Fatal(err)
	}
	fast, err := hub.Subscribe(Filter{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		hub.Publish(exchange())
	}
	if len(slow.C) != 3 || slow.Dropped() != 7 || slow.Dropped() != 0 || len(fast.C) != 10 || fast.Dropped() != 0 {
		t.Errorf("slow has %d, fast has %d", len(slow.C), len(fast.C))
	}
	slow.Close()
	hub.Publish(exchange())
	if len(slow.C) != 3 || len(fast.C) != 11 {
		t.Error("a closed subscription receives")
	}
	fast.Close()
	fast.Close()
}

// What a subscriber receives stays valid when the publisher's buffers change.
func TestHubCopies(t *testing.T) {
	var hub Hub
	s, err := hub.Subscribe(Filter{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ex := exchange()
	hub.Publish(ex)
	copy(ex.Path, "XXXXXXXXXX")
	if got := <-s.C; string(got.Path) != "/items/42" {
		t.Errorf("%s", got.Path)
	}
}

// Subscribers come and go while exchanges are published.
func TestHubConcurrency(t *testing.T) {
	var hub Hub
	var watchers sync.WaitGroup
	for range 4 {
		watchers.Go(func() {
			for range 200 {
				s, err := hub.Subscribe(Filter{}, 1)
				if err != nil {
					t.Error(err)
					return
				}
				s.Dropped()
				s.Close()
			}
		})
	}
	for range 2000 {
		hub.Publish(exchange())
	}
	watchers.Wait()
	if hub.subs.Load() != nil {
		t.Error("subscriptions are left")
	}
}

func TestHubLimitAndCost(t *testing.T) {
	var hub Hub
	ex := exchange()
	if n := testing.AllocsPerRun(100, func() { hub.Publish(ex) }); n != 0 {
		t.Errorf("%v allocations without a subscriber", n)
	}
	for range subscribersMax {
		s, err := hub.Subscribe(Filter{Services: []string{"nobody"}}, 1)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
	}
	if n := testing.AllocsPerRun(100, func() { hub.Publish(ex) }); n != 0 {
		t.Errorf("%v allocations for exchanges that nobody wants", n)
	}
	if _, err := hub.Subscribe(Filter{}, 1); !errors.Is(err, ErrTooManySubscribers) {
		t.Errorf("%v", err)
	}
}

func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{0, 1} {
		b.Run(map[int]string{0: "nobody", 1: "subscriber"}[n], func(b *testing.B) {
			var hub Hub
			var s *Subscription
			if n > 0 {
				s, _ = hub.Subscribe(Filter{}, 1)
				defer s.Close()
			}
			var ex *wire.Exchange = exchange()
			b.ReportAllocs()
			for b.Loop() {
				hub.Publish(ex)
				if s != nil {
					<-s.C
				}
			}
		})
	}
}

var exchange, clientExchange = wiretest.Exchange, wiretest.ClientExchange
