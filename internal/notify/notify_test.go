package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/perfagent/perfagent/internal/statefile"
)

// told is what a receiver of a test was told.
type told struct {
	id     string
	status string
	names  []string
	at     time.Time
}

// listener is a receiver of a test.
type listener struct {
	mu       sync.Mutex
	got      []told
	attempts int
	answer   func() error // to each attempt; nil takes everything
	during   func()       // while it is told, after it has taken the notification
}

func (l *listener) deliver(ctx context.Context, n *notification) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.attempts++
	if l.answer != nil {
		if err := l.answer(); err != nil {
			return err
		}
	}
	one := told{id: n.ID, status: n.status(), at: time.Now()}
	for i := range n.Alerts {
		one.names = append(one.names, n.Alerts[i].name()+"/"+n.Alerts[i].status())
	}
	slices.Sort(one.names)
	l.got = append(l.got, one)
	if l.during != nil {
		l.during()
	}
	return nil
}

func (l *listener) heard() []told {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.got)
}

func (l *listener) set(answer func() error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answer = answer
}

// words is what was told, in order.
func (l *listener) words() string {
	var words []string
	for _, one := range l.heard() {
		words = append(words, strings.Join(one.names, "+"))
	}
	return strings.Join(words, " ")
}

// fixture is a notifier with receivers of a test; its clock is the bubble's.
type fixture struct {
	t         *testing.T
	o         Options
	listeners map[string]*listener
	n         *Notifier
	stop      func()
}

func newFixture(t *testing.T, c Config, path string) *fixture {
	f := &fixture{t: t, listeners: map[string]*listener{}}
	for _, r := range c.Receivers {
		f.listeners[r.Name] = &listener{}
	}
	f.o = Options{Config: c, Path: path, Host: "here", deliverTo: func(r *Receiver, _ int) integration { return f.listeners[r.Name] }}
	return f
}

func (f *fixture) start() *fixture {
	f.t.Helper()
	n, err := New(f.o)
	if err != nil {
		f.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { n.Run(ctx); close(ended) }()
	f.n = n
	f.stop = func() { cancel(); <-ended }
	synctest.Wait()
	return f
}

func (f *fixture) restart() {
	f.stop()
	f.start()
}

// pass lets time go by, in which the alerts are repeated once a minute as rules do.
func (f *fixture) pass(d time.Duration, firing ...Alert) {
	for d > 0 {
		f.n.Send(firing)
		step := min(d, time.Minute)
		time.Sleep(step)
		synctest.Wait()
		d -= step
	}
}

// expect compares what a receiver was told so far.
func (f *fixture) expect(receiver, words string) {
	f.t.Helper()
	if got := f.listeners[receiver].words(); got != words {
		f.t.Errorf("%s after %s was told %q, not %q", receiver, time.Since(bubbleStart), got, words)
	}
}

// bubbleStart is when time begins in a bubble (testing/synctest).
var bubbleStart = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func alert(name string, pairs ...string) Alert {
	a := Alert{Labels: map[string]string{"alertname": name, "severity": "warning", "service_name": "shop"}, Annotations: map[string]string{"summary": name + " is bad"}, StartsAt: time.Now()}
	for i := 0; i < len(pairs); i += 2 {
		a.Labels[pairs[i]] = pairs[i+1]
	}
	return a
}

func ended(a Alert) Alert {
	a.EndsAt = time.Now()
	return a
}

func webhookReceiver(name string) Receiver {
	return Receiver{Name: name, Webhook: &Webhook{Endpoint: Endpoint{URL: "http://127.0.0.1:1/"}}}
}

func simple() Config { return Config{Receivers: []Receiver{webhookReceiver("hook")}} }

var errDown = errors.New("connection refused")

// An incident of half an hour, repeated each minute, is told once when it begins and once when it ends, the first time after group-wait.
func TestOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, simple(), t.TempDir()).start()
		defer f.stop()
		a := alert("Slow")
		f.pass(29*time.Second, a)
		f.expect("hook", "")
		f.pass(30*time.Minute, a)
		f.expect("hook", "Slow/firing")
		if at := f.listeners["hook"].heard()[0].at.Sub(a.StartsAt); at != GroupWaitDefault {
			t.Errorf("it was told after %s", at)
		}
		f.n.Send([]Alert{ended(a)})
		f.pass(time.Hour)
		f.expect("hook", "Slow/firing Slow/resolved")
		f.n.Send([]Alert{ended(a)}) // as rules repeat what has ended
		f.pass(time.Hour)
		f.expect("hook", "Slow/firing Slow/resolved")
	})
}

// While a receiver is down for ten minutes others are told in time; when it is back it is told once, of how things are then.
func TestReceiverDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Config{Receivers: []Receiver{webhookReceiver("hook"), webhookReceiver("other")}}
		f := newFixture(t, c, t.TempDir()).start()
		defer f.stop()
		down := f.listeners["hook"]
		down.set(func() error { return errDown })
		slow, late, brief := alert("Slow"), alert("Late"), alert("Brief")
		f.pass(2*time.Minute, slow, brief)
		if trouble := f.n.Trouble(); len(trouble) != 1 || !strings.Contains(trouble[0], "connection refused") {
			t.Errorf("health: %q", trouble)
		}
		f.expect("other", "Brief/firing Slow/firing")
		f.n.Send([]Alert{ended(brief)})
		f.pass(8*time.Minute, slow, late)
		attempts := down.attempts
		if attempts < 6 || attempts > 20 {
			t.Errorf("%d attempts in ten minutes", attempts)
		}
		s := f.n.Stats().Sinks[0]
		if s.Queue != 3 || s.AttemptsFailed != uint64(attempts) || s.Oldest.IsZero() {
			t.Errorf("figures: %+v", s)
		}
		down.set(nil)
		f.pass(20*time.Minute, slow, late)
		got := strings.Fields(down.words())
		slices.Sort(got)
		if fmt.Sprint(got) != "[Brief/resolved Late/firing Slow/firing]" {
			t.Errorf("the receiver that was down was told %v", got)
		}
		if since := down.heard()[0].at.Sub(bubbleStart); since > 12*time.Minute {
			t.Errorf("it was told after %s", since)
		}
		if trouble := f.n.Trouble(); len(trouble) != 0 || f.n.Stats().Sinks[0].Queue != 0 {
			t.Errorf("after it is back: %q, %+v", trouble, f.n.Stats().Sinks[0])
		}
	})
}

// A restart at any moment around an incident's notifications leads to one notification of its beginning and one of its end.
func TestRestart(t *testing.T) {
	for at := 0; at < 80; at += 3 {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t, simple(), t.TempDir()).start()
			defer func() { f.stop() }()
			a := alert("Slow")
			f.pass(time.Duration(at)*time.Second, a)
			f.restart()
			f.pass(10*time.Minute, a)
			f.restart()
			f.n.Send([]Alert{ended(a)})
			f.pass(time.Duration(at) * time.Second)
			f.restart()
			f.pass(10 * time.Minute)
			f.expect("hook", "Slow/firing Slow/resolved")
		})
	}
}

// The directory as it is at each second, and right before and after the receiver has taken a notification, is what a kill -9 leaves: from each of them
// an agent goes on so that every incident has one notification of its beginning and one of its end, counted by their names, which a repeated attempt keeps.
func TestKill(t *testing.T) {
	states := t.TempDir()
	type state struct {
		path   string
		at     time.Time
		before []told
	}
	var left []state
	synctest.Test(t, func(t *testing.T) {
		path := t.TempDir()
		f := newFixture(t, simple(), path)
		l := f.listeners["hook"]
		keep := func() { // with the listener's lock held
			to := filepath.Join(states, fmt.Sprint(len(left)))
			if err := os.CopyFS(to, os.DirFS(path)); err != nil {
				t.Error(err)
			}
			left = append(left, state{to, time.Now(), slices.Clone(l.got)})
		}
		l.answer = func() error { keep(); return nil }
		l.during = keep
		second := func() { l.mu.Lock(); defer l.mu.Unlock(); keep() }
		f.start()
		defer f.stop()
		a := alert("Slow")
		for i := range 120 {
			if i < 60 {
				f.pass(time.Second, a)
			} else {
				f.pass(time.Second, ended(a))
			}
			second()
		}
		f.pass(10 * time.Minute)
		second()
		f.expect("hook", "Slow/firing Slow/resolved")
	})
	repeated := 0
	for _, s := range left {
		synctest.Test(t, func(t *testing.T) {
			a := alert("Slow")
			time.Sleep(s.at.Sub(bubbleStart))
			f := newFixture(t, simple(), s.path).start()
			defer f.stop()
			if s.at.Sub(bubbleStart) < time.Minute {
				f.pass(2*time.Minute, a)
			}
			f.n.Send([]Alert{ended(a)})
			f.pass(20 * time.Minute)
			names := map[string]string{}
			all := append(slices.Clone(s.before), f.listeners["hook"].heard()...)
			for _, one := range all {
				names[one.id] = one.status
			}
			repeated += len(all) - len(names)
			if got := slices.Sorted(maps.Values(names)); fmt.Sprint(got) != "[firing resolved]" {
				t.Errorf("killed after %s: %v, of %v before", s.at.Sub(bubbleStart), got, s.before)
			}
		})
	}
	if len(left) < 120 || repeated != 2 { // right after the receiver has taken each of the two
		t.Errorf("%d states, %d notifications twice with the same name", len(left), repeated)
	}
}

// An alert that ends and begins again within group-interval is told once, and its final end is.
func TestFlapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, simple(), t.TempDir()).start()
		defer f.stop()
		a := alert("Slow")
		f.pass(40*time.Second, a)
		for range 8 {
			f.n.Send([]Alert{ended(a)})
			f.pass(15 * time.Second)
			a.StartsAt = time.Now()
			f.pass(15*time.Second, a)
		}
		f.expect("hook", "Slow/firing")
		f.n.Send([]Alert{ended(a)})
		f.pass(20 * time.Minute)
		f.expect("hook", "Slow/firing Slow/resolved")
		// Faster than group-wait from the first moment on.
		for range 10 {
			a.StartsAt = time.Now()
			f.pass(10*time.Second, a)
			f.n.Send([]Alert{ended(a)})
			f.pass(10 * time.Second)
		}
		f.pass(20 * time.Minute)
		if got := strings.Fields(f.listeners["hook"].words()); len(got) > 4 {
			t.Errorf("told %v", got)
		}
	})
}

// What begins and ends within group-wait is told once, as resolved.
func TestBrief(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, simple(), "").start()
		defer f.stop()
		a := alert("Slow")
		f.pass(10*time.Second, a)
		f.n.Send([]Alert{ended(a)})
		f.pass(time.Hour)
		f.expect("hook", "Slow/resolved")
	})
}

// Alerts with the same name and service are one notification, also when one comes a little later; others have their own. Another group-by makes other groups, and
// tells nobody again.
func TestGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, simple(), t.TempDir()).start()
		defer f.stop()
		one, two := alert("Slow", "http_route", "/a"), alert("Slow", "http_route", "/b")
		other := alert("Slow", "service_name", "bank")
		f.pass(10*time.Second, one, other)
		f.pass(2*time.Minute, one, two, other)
		f.expect("hook", "Slow/firing Slow/firing+Slow/firing")
		c := simple()
		c.GroupBy = []string{"alertname"}
		f.n.Apply(c)
		f.pass(time.Hour, one, two, other)
		f.expect("hook", "Slow/firing Slow/firing+Slow/firing")
		f.n.Send([]Alert{ended(one), ended(two), ended(other)})
		f.pass(10 * time.Minute)
		f.expect("hook", "Slow/firing Slow/firing+Slow/firing Slow/resolved+Slow/resolved+Slow/resolved")
	})
}

// What goes on firing is told again after repeat-interval, and what nobody repeats any more is over after five minutes, or at its own end.
func TestRepeatAndLapse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, simple(), t.TempDir()).start()
		defer f.stop()
		a := alert("Slow")
		f.pass(9*time.Hour, a)
		f.expect("hook", "Slow/firing Slow/firing Slow/firing")
		f.pass(6 * time.Minute)
		f.expect("hook", "Slow/firing Slow/firing Slow/firing Slow/resolved")
		b := alert("Lapsing")
		b.EndsAt = time.Now().Add(2 * time.Minute)
		f.n.Send([]Alert{b})
		f.pass(20 * time.Minute)
		f.expect("hook", "Slow/firing Slow/firing Slow/firing Slow/resolved Lapsing/firing Lapsing/resolved")
	})
}

// Urgent alerts go to some receivers and the others to others; without a receiver, and for what no receiver is named for, there is the log.
func TestRouting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Config{Receivers: []Receiver{webhookReceiver("pager"), webhookReceiver("chat")}, Urgent: []string{"pager"}, Regular: []string{"chat"}}
		f := newFixture(t, c, "").start()
		defer f.stop()
		all := []Alert{alert("Info", "severity", "info"), alert("Warn"), alert("Bad", "severity", "error"), alert("Worst", "severity", "critical")}
		f.pass(time.Minute, all...)
		for name, want := range map[string]string{"pager": "[Bad/firing Worst/firing]", "chat": "[Info/firing Warn/firing]"} {
			got := strings.Fields(f.listeners[name].words())
			slices.Sort(got)
			if fmt.Sprint(got) != want {
				t.Errorf("%s: %v", name, got)
			}
		}
	})
	for _, c := range []struct {
		Config
		want string
	}{
		{Config{}, "log:tt"},
		{Config{Receivers: []Receiver{webhookReceiver("a")}}, "a:tt"},
		{Config{Receivers: []Receiver{webhookReceiver("a")}, Urgent: []string{"a"}}, "a:tf log:ft"},
		{Config{Receivers: []Receiver{webhookReceiver("a")}, Regular: []string{"a"}}, "a:tt"},
		{Config{Receivers: []Receiver{webhookReceiver("a")}, Urgent: []string{"a", "log"}, Regular: []string{"a"}}, "a:tt log:tf"},
		{Config{Receivers: []Receiver{webhookReceiver("a"), {Name: "log", Email: new(Email)}}, Urgent: []string{"a"}, Regular: []string{"a"}}, "a:tt log:ff"},
	} {
		var got []string
		for _, r := range c.receivers() {
			urgent, regular := c.takes(r.Name)
			got = append(got, fmt.Sprintf("%s:%.1s%.1s", r.Name, fmt.Sprint(urgent), fmt.Sprint(regular)))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%+v: %v", c.Config, got)
		}
	}
}

// Who was told of an alert and gets such ones no more, because of a reload or a start, is told its end and nothing else, also where it
// begins again meanwhile; a receiver of incidents would have it open for ever.
func TestEndIsOwed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Config{Receivers: []Receiver{webhookReceiver("pager"), webhookReceiver("chat")}, Urgent: []string{"pager"}, Regular: []string{"chat"}}
		f := newFixture(t, c, t.TempDir()).start()
		defer func() { f.stop() }()
		bad, worse, late := alert("Bad", "severity", "error"), alert("Worse", "severity", "error"), alert("Late", "severity", "error")
		f.pass(2*time.Minute, bad, worse)
		f.expect("pager", "Bad/firing Worse/firing")
		c.Urgent = []string{"chat"}
		c.Regular = c.Urgent
		f.n.Apply(c)
		f.pass(9*time.Hour, bad, worse, late) // beyond every repeat
		f.expect("pager", "Bad/firing Worse/firing")
		f.n.Send([]Alert{ended(bad)})
		f.pass(10*time.Minute, worse)
		f.expect("pager", "Bad/firing Worse/firing Bad/resolved")
		f.pass(10*time.Minute, bad, worse)
		f.expect("pager", "Bad/firing Worse/firing Bad/resolved")
		f.o.Config = c
		f.restart()
		f.pass(10*time.Minute, bad, worse)
		f.n.Send([]Alert{ended(bad), ended(worse)})
		f.pass(10 * time.Minute)
		f.expect("pager", "Bad/firing Worse/firing Bad/resolved Worse/resolved")
	})
}

// A silence keeps an alert from being told until it ends, if it still fires then; that one has ended that was told of before is told in spite of it.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, simple(), t.TempDir()).start()
		defer f.stop()
		known := alert("Known")
		f.pass(10*time.Minute, known)
		matcher, err := ParseMatcher(`service_name=~"sh.p"`)
		if err != nil {
			t.Fatal(err)
		}
		c := simple()
		c.Silences = []Silence{{Matchers: []Matcher{matcher}, To: time.Now().Add(time.Hour)}}
		f.n.Apply(c)
		gone, stays, other := alert("Gone"), alert("Stays"), alert("Other", "service_name", "bank")
		f.pass(20*time.Minute, gone, stays, other, known)
		f.n.Send([]Alert{ended(gone), ended(known)})
		f.pass(39*time.Minute, stays, other)
		f.expect("hook", "Known/firing Other/firing Known/resolved")
		f.pass(10*time.Minute, stays, other)
		f.expect("hook", "Known/firing Other/firing Known/resolved Stays/firing")
	})
}

// In quiet hours only what is urgent is told; what was held back is told afterwards, where it still fires. They are by the receiver and its time zone.
func TestQuietHours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		zone := time.FixedZone("two hours ahead", 2*60*60) // a bubble begins at midnight UTC: 02:00 there, a Saturday
		hours := QuietHours{From: 22 * 60, To: 6 * 60, Zone: zone}
		hours.Days[time.Friday] = true // 02:00 belongs to the night that began on Friday
		c := Config{Receivers: []Receiver{webhookReceiver("hook"), webhookReceiver("other")}}
		c.Receivers[0].Quiet = []QuietHours{hours}
		f := newFixture(t, c, t.TempDir()).start()
		defer func() { f.stop() }()
		warn, gone, bad := alert("Warn"), alert("Gone"), alert("Bad", "severity", "critical")
		f.pass(time.Hour, warn, gone, bad)
		f.expect("hook", "Bad/firing")
		f.n.Send([]Alert{ended(gone), ended(bad)})
		f.restart()
		f.pass(2*time.Hour+59*time.Minute, warn)
		f.expect("hook", "Bad/firing Bad/resolved")
		f.pass(2*time.Minute, warn)
		f.expect("hook", "Bad/firing Bad/resolved Warn/firing")
		if got := len(f.listeners["other"].heard()); got != 6 { // three, two ends, and one repeat
			t.Errorf("a receiver without quiet hours was told %d times", got)
		}
		f.pass(24*time.Hour-5*time.Hour, warn) // the night that begins on Saturday is not quiet
		later := alert("Later")
		f.pass(time.Minute, warn, later)
		if got := f.listeners["hook"].words(); !strings.HasSuffix(got, "Later/firing") {
			t.Errorf("the next night: %q", got)
		}
	})
}

// While a critical alert of an endpoint fires, a warning of the same endpoint is not told, also after a restart; one of another endpoint is.
func TestInhibition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, simple(), t.TempDir()).start()
		defer func() { f.stop() }()
		critical := alert("Down", "severity", "critical", "http_route", "/a")
		same, other := alert("Slow", "http_route", "/a"), alert("Slow", "http_route", "/b")
		f.pass(10*time.Minute, critical, same, other)
		f.expect("hook", "Down/firing Slow/firing")
		f.restart()
		f.pass(10*time.Minute, critical, same, other)
		f.expect("hook", "Down/firing Slow/firing")
		f.n.Send([]Alert{ended(critical)})
		f.pass(10*time.Minute, same, other)
		got := strings.Fields(f.listeners["hook"].words())
		slices.Sort(got)
		if fmt.Sprint(got) != "[Down/firing Down/resolved Slow/firing Slow/firing+Slow/firing]" {
			t.Errorf("told %v", got)
		}
	})
}

// Of a whole service, or a host, a critical alert has only those not told that differ from it in how bad they are: the slower burn rates
// of an objective that burns fast, and neither another objective nor anything else of the service.
func TestInhibitionBeyondEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, simple(), t.TempDir()).start()
		defer f.stop()
		burn := func(objective, severity, rate string) Alert {
			return alert("Burn", "severity", severity, "objective", objective, "burn_rate", rate)
		}
		f.pass(10*time.Minute, burn("availability", "critical", "14.4"), burn("availability", "error", "6"), burn("availability", "warning", "3"), burn("availability", "info", "1"))
		f.expect("hook", "Burn/firing")
		f.pass(10*time.Minute, burn("availability", "critical", "14.4"), burn("availability", "error", "6"), burn("latency", "error", "6"), alert("Threads"))
		got := strings.Fields(f.listeners["hook"].words())
		slices.Sort(got)
		if fmt.Sprint(got) != "[Burn/firing Burn/firing+Burn/firing Threads/firing]" {
			t.Errorf("told %v", got)
		}
	})
}

// What a receiver rejects is not tried again and counts as failed; after its configuration has changed it is told of what still fires.
func TestRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, simple(), t.TempDir()).start()
		defer f.stop()
		l := f.listeners["hook"]
		l.set(func() error { return permanently(errors.New("404")) })
		a, gone := alert("Slow"), alert("Gone")
		f.pass(time.Hour, a, gone)
		f.n.Send([]Alert{ended(gone)})
		f.pass(time.Hour, a)
		if s := f.n.Stats().Sinks[0]; l.attempts != 2 || s.Failed[reasonRejected] != 2 || s.Delivered != 0 {
			t.Errorf("%d attempts, %+v", l.attempts, s)
		}
		if len(f.n.Trouble()) != 1 {
			t.Errorf("health: %q", f.n.Trouble())
		}
		l.set(nil)
		c := simple()
		c.Receivers[0].Webhook.URL = "http://127.0.0.1:2/"
		f.n.Apply(c)
		f.pass(time.Minute, a)
		f.expect("hook", "Slow/firing")
	})
}

// A notification is tried for six hours, with growing pauses, and then given up and counted; Retry-After makes a pause longer, up to an hour.
func TestExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, simple(), t.TempDir()).start()
		defer f.stop()
		l := f.listeners["hook"]
		var attempts []time.Time
		l.set(func() error { attempts = append(attempts, time.Now()); return errDown })
		a := alert("Slow")
		f.pass(5*time.Hour+59*time.Minute, a)
		if s := f.n.Stats().Sinks[0]; s.Failed[reasonExpired] != 0 {
			t.Errorf("given up too early: %+v", s)
		}
		for i := 8; i < len(attempts); i++ {
			if pause := attempts[i].Sub(attempts[i-1]); pause < retryMax/2 || pause > retryMax {
				t.Errorf("pause %d has %s", i, pause)
			}
		}
		f.pass(5*time.Minute, a)
		if s := f.n.Stats().Sinks[0]; s.Failed[reasonExpired] != 1 || s.Queue != 0 {
			t.Errorf("not given up: %+v", s)
		}
		l.set(func() error {
			attempts = append(attempts, time.Now())
			return deliveryError{err: errors.New("429"), after: 3 * time.Hour}
		})
		attempts = nil
		b := alert("Other")
		f.pass(2*time.Hour, a, b)
		if len(attempts) < 2 || attempts[1].Sub(attempts[0]) != time.Hour {
			t.Errorf("attempts at %v", attempts)
		}
	})
}

// No more than 1,000 alerts are kept for a receiver; an urgent one takes the place of another, and what finds none is counted.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, simple(), t.TempDir()).start()
		defer f.stop()
		f.listeners["hook"].set(func() error { return errDown })
		for batch := range 10 {
			var alerts []Alert
			for i := range (alertsMax + 70) / 10 {
				alerts = append(alerts, alert("Many", "number", fmt.Sprint(batch, "-", i)))
			}
			f.n.Send(alerts)
			synctest.Wait()
		}
		f.n.Send([]Alert{alert("Urgent", "severity", "critical")})
		f.pass(time.Minute)
		s := f.n.Stats().Sinks[0]
		if s.Queue != alertsMax || s.Dropped[reasonFull] != 71 {
			t.Errorf("figures: %+v", s)
		}
		f.listeners["hook"].set(nil)
		f.pass(3 * time.Minute)
		if words := f.listeners["hook"].words(); !strings.Contains(words, "Urgent/firing") {
			t.Errorf("the urgent one was not told")
		}
	})
	big := Alert{Labels: map[string]string{"alertname": strings.Repeat("é", 5000), "bad name": "x", "empty": "", "ok": "\xff"}, Annotations: map[string]string{}}
	for i := range 100 {
		big.Annotations[fmt.Sprint("a", i)] = strings.Repeat("x", 5000)
	}
	c := big.cleaned()
	size := 0
	for name, value := range c.Labels {
		size += len(name) + len(value)
	}
	for name, value := range c.Annotations {
		size += len(name) + len(value)
	}
	if size > alertBytesMax || len(c.Labels) != 3 || len(c.Labels["alertname"]) > labelBytesMax || !strings.HasPrefix(c.Labels["ok"], "�…") {
		t.Errorf("%d bytes, labels %v", size, c.Labels)
	}
}

// An Alertmanager gets every alert as it is, each repeat of it, and its end; silences, quiet hours and groups are its own. An end that it could not be
// told reaches it later, and each of several has its own way.
func TestForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Config{Receivers: []Receiver{{Name: "am", Alertmanager: &Alertmanager{URLs: []string{"http://one", "http://two"}}}}}
		f := newFixture(t, c, t.TempDir())
		f.listeners["two"] = &listener{answer: func() error { return errDown }}
		f.o.deliverTo = func(r *Receiver, target int) integration { return f.listeners[[]string{"am", "two"}[target]] }
		f.start()
		defer func() { f.stop() }()
		a, b := alert("Slow"), alert("Other")
		f.pass(3*time.Minute, a, b)
		if got := f.listeners["am"].words(); got != strings.TrimSpace(strings.Repeat("Other/firing+Slow/firing ", 3)) {
			t.Errorf("told %q", got)
		}
		f.n.Send([]Alert{ended(a)})
		f.pass(time.Minute, b)
		f.listeners["two"].set(nil)
		f.restart()
		f.pass(5*time.Minute, b)
		if got := f.listeners["two"].words(); !strings.HasPrefix(got, "Other/firing+Slow/resolved ") || strings.Count(got, "Slow") != 1 {
			t.Errorf("the second was told %q", got)
		}
		if got := f.listeners["am"].words(); strings.Count(got, "Slow/resolved") != 1 {
			t.Errorf("the first was told %q", got)
		}
	})
}

// A link in place of the directory, or of the lock in it, is not followed: what it leads to keeps its mode, and nothing is made there.
func TestDirectoryOfOthers(t *testing.T) {
	victim := t.TempDir()
	if err := os.Chmod(victim, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, plant := range map[string]func(at string) error{
		"directory": func(at string) error { return os.Symlink(victim, at) },
		"lock": func(at string) error {
			return errors.Join(os.Mkdir(at, 0o700), os.Symlink(filepath.Join(victim, "made"), filepath.Join(at, "lock")))
		},
	} {
		at := filepath.Join(t.TempDir(), "notify")
		if err := plant(at); err != nil {
			t.Fatal(err)
		}
		if d, err := openDirectory(at); err == nil {
			t.Errorf("%s: it is used", name)
			d.close()
		}
	}
	info, err := os.Stat(victim)
	entries, _ := os.ReadDir(victim)
	if err != nil || info.Mode().Perm() != 0o755 || len(entries) != 0 {
		t.Errorf("%v, %v, %v", info.Mode(), entries, err)
	}
}

// A reload that takes a receiver away and one that brings it back do not tell it again what it knows, and a delivery under way does not keep alerts
// from being taken.
func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, simple(), t.TempDir()).start()
		defer f.stop()
		f.listeners["other"] = &listener{}
		a := alert("Slow")
		f.pass(time.Minute, a)
		f.n.Apply(Config{Receivers: []Receiver{webhookReceiver("other")}})
		f.pass(2*time.Minute, a)
		f.expect("other", "Slow/firing")
		f.n.Apply(simple())
		f.pass(2*time.Minute, a)
		f.expect("hook", "Slow/firing")
		// The wrong names are found before anything is applied.
		for _, c := range []Config{
			{Urgent: []string{"nobody"}},
			{Receivers: []Receiver{webhookReceiver("a"), webhookReceiver("a")}},
			{Receivers: []Receiver{{Name: "s", Slack: &Slack{Endpoint{URLFile: "/does/not/exist"}}}}},
			{Remedies: RemedyConfig{Rules: []Remedy{{Name: "a"}, {Name: "a"}}}},
		} {
			var key *KeyError
			if err := f.n.Check(&c); !errors.As(err, &key) {
				t.Errorf("%+v: %v", c, err)
			}
		}
	})
}

// A state that is cut or has a wrong byte at any place is set aside, and the agent goes on; one that is whole is read.
func TestDamage(t *testing.T) {
	path := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, simple(), path).start()
		f.pass(time.Minute, alert("Slow"))
		f.stop()
	})
	name := filepath.Join(path, "notify", "hook.json")
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info, err)
	}
	if info, err := os.Stat(filepath.Dir(name)); err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("%v %v", info, err)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var state savedSink
	if err := decodeState(data, &state); err != nil || len(state.Alerts) != 1 || !state.Alerts[0].Told {
		t.Fatalf("%v %+v", err, state)
	}
	for i := range data {
		if err := decodeState(data[:i], new(savedSink)); err == nil {
			t.Fatalf("cut at %d it is taken for whole", i)
		}
		flipped := slices.Clone(data)
		flipped[i] ^= 1 << (i % 8)
		if err := decodeState(flipped, new(savedSink)); err == nil && flipped[i]|0x20 != data[i]|0x20 { // the checksum's digits may be capitals
			t.Fatalf("with another byte at %d it is taken for whole", i)
		}
	}
	for i := range statefile.AsideMax + 2 {
		if err := os.WriteFile(name, fmt.Append(nil, "damage ", i), 0o600); err != nil {
			t.Fatal(err)
		}
		n, err := New(Options{Config: simple(), Path: path})
		if err != nil || n.Stats().Sinks[0].Damaged != 1 || len(n.Trouble()) != 0 {
			t.Fatalf("%v %+v", err, n)
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	aside, err := filepath.Glob(name + ".damaged.*")
	if err != nil || len(aside) != statefile.AsideMax {
		t.Errorf("%v %v", aside, err)
	}
}

// disk is a file system of 64 KiB.
type disk struct {
	t    *testing.T
	path string
}

func smallDisk(t *testing.T, path string) disk {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", path, "tmpfs", 0, "size=64k,mode=700"); errors.Is(err, unix.EPERM) {
		t.Skip("mounting is for root")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(path, unix.MNT_DETACH) })
	return disk{t, path}
}

func (d disk) filler() string { return filepath.Join(d.path, "filler") }

func (d disk) fill() {
	d.t.Helper()
	if err := os.WriteFile(d.filler(), make([]byte, 128<<10), 0o600); !errors.Is(err, unix.ENOSPC) {
		d.t.Fatal(err)
	}
}

func (d disk) empty() {
	d.t.Helper()
	if err := os.Remove(d.filler()); err != nil {
		d.t.Fatal(err)
	}
}

// With a disk that is full, everything is told in time all the same, and health and figures say that it is in memory only; when there is room again the
// state is written. A second agent on the same directory is in memory as well.
func TestDiskFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := t.TempDir()
		disk := smallDisk(t, filepath.Join(path, "notify"))
		f := newFixture(t, simple(), path).start()
		disk.fill()
		a := alert("Slow")
		f.n.Send([]Alert{a})
		synctest.Wait()
		if trouble := f.n.Trouble(); len(trouble) != 1 || !strings.Contains(trouble[0], "no space left on device") {
			t.Errorf("health: %q", trouble)
		}
		f.pass(35*time.Second, a)
		f.expect("hook", "Slow/firing")
		if s := f.n.Stats().Sinks[0]; s.SaveErrors == 0 {
			t.Errorf("figures: %+v", s)
		}
		disk.empty()
		f.pass(2*time.Minute, a)
		if trouble := f.n.Trouble(); len(trouble) != 0 {
			t.Errorf("health when there is room again: %q", trouble)
		}
		second, err := New(f.o)
		if err != nil || len(second.Trouble()) != 1 || !strings.Contains(second.Trouble()[0], "another agent uses it") {
			t.Errorf("a second agent: %v", err)
		}
		f.restart()
		f.pass(10*time.Minute, a)
		f.expect("hook", "Slow/firing")
		f.stop()
	})
}

// While a receiver does not answer at all, alerts are taken at once, a stop takes three seconds, and what was not told is told after a restart.
func TestHangingReceiver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, simple(), t.TempDir())
		hanging := hangingReceiver{}
		f.o.deliverTo = func(*Receiver, int) integration { return hanging }
		f.start()
		a := alert("Slow")
		f.pass(31*time.Second, a)
		began := time.Now()
		f.n.Send([]Alert{alert("Other")})
		f.stop()
		if took := time.Since(began); took != stopGrace {
			t.Errorf("the stop took %s", took)
		}
		l := f.listeners["hook"]
		f.o.deliverTo = func(*Receiver, int) integration { return l }
		f.start()
		defer f.stop()
		f.pass(time.Minute)
		got := strings.Fields(l.words())
		slices.Sort(got)
		if fmt.Sprint(got) != "[Other/firing Slow/firing]" {
			t.Errorf("told %v", got)
		}
	})
}

type hangingReceiver struct{}

func (hangingReceiver) deliver(ctx context.Context, _ *notification) error {
	<-ctx.Done()
	return ctx.Err()
}

// The log has one line for each alert, whatever its text.
func TestLogReceiver(t *testing.T) {
	var text strings.Builder
	s := logSender{slog.New(slog.NewTextHandler(&text, nil))}
	a, b := alert("Slow", "http_route", "/a\nlevel=ERROR msg=forged"), alert("Bad", "severity", "critical")
	b.EndsAt = b.StartsAt.Add(time.Minute)
	n := &notification{Alerts: []item{{Alert: &a, New: true}, {Alert: &b, Over: true}}}
	if err := s.deliver(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(text.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], `level=WARN msg="alert firing" alertname=Slow summary="Slow is bad"`) ||
		!strings.Contains(lines[1], `level=INFO msg="alert resolved" alertname=Bad`) {
		t.Errorf("%s", text.String())
	}
}
