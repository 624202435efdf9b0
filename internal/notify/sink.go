package notify

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

const (
	// alertsMax bounds the alerts that are kept for one receiver; with alertBytesMax it is 8 MiB at worst.
	alertsMax = 1000
	// batchMax bounds the alerts of one request to an Alertmanager: with alertBytesMax 1.6 MiB.
	batchMax = 200
	// lapseAfter is how long an alert fires that nobody repeats: its rule is gone. Callers repeat once a minute.
	lapseAfter = 5 * time.Minute
	// retryMin and retryMax bound the pause after a failed attempt, which doubles each time.
	retryMin, retryMax = 2 * time.Second, 2 * time.Minute
	// retryAfterMax bounds the pause that a receiver asks for.
	retryAfterMax = time.Hour
	// giveUpAfter is how long a notification is tried: what nobody could be told for so long is old news.
	giveUpAfter = 6 * time.Hour
	// deliveryTimeout bounds one attempt.
	deliveryTimeout = 20 * time.Second
	// lookAgain is the longest pause of a sink that has alerts: silences and quiet hours begin and end.
	lookAgain = 30 * time.Second
	// stopGrace is what a delivery under way gets at the end, so that it is not made again after a restart.
	stopGrace = 3 * time.Second
	// saveAgain is when a state that could not be written is tried again.
	saveAgain = time.Minute
	// stillFailing is how often the log says that a receiver fails, givingUp how often that a notification was given up: there may be many at once.
	stillFailing = time.Hour
	givingUp     = time.Minute
)

// integration delivers to one kind of receiver. It is called by one goroutine at a time, with a deadline.
type integration interface {
	deliver(ctx context.Context, n *notification) error
}

// policy is how a sink treats alerts; it is replaced as a whole at a reload.
type policy struct {
	to       integration
	groupBy  []string
	wait     time.Duration
	interval time.Duration
	repeat   time.Duration // 0: never
	quiet    []QuietHours
	mutes    *mutes // nil: nothing is kept from it
	// forward hands alerts on as they come, repeats too: the receiver groups and remembers by itself.
	forward bool
	// urgent and regular are the alerts that it gets.
	urgent, regular bool
}

func (p *policy) takes(a *Alert) bool {
	if a.isUrgent() {
		return p.urgent
	}
	return p.regular
}

// tracked is an alert that fires, or whose end has not been told yet.
type tracked struct {
	id      string
	alert   *Alert
	group   *group
	expires time.Time // while it fires: when it is over unless somebody repeats it
	over    bool
	told    bool // that it fires
	gaveUp  bool // at telling so
	since   time.Time
	toldAt  time.Time // when a notification with it was delivered last; zero: never
}

// group is what is told in one notification.
type group struct {
	key      string
	labels   map[string]string
	born     time.Time
	sequence uint64    // of its notifications
	flushed  time.Time // the last one was settled, delivered or not
	sent     time.Time // the last one was delivered
	failing  time.Time // since when the present one is tried in vain
	tried    time.Time
	alerts   map[string]*tracked
}

// sink is one place where notifications go: a receiver, or one of an Alertmanager receiver's URLs. Its goroutine owns all but what stands
// below mu. What is to be told is never in a queue of messages: it is the difference between what is and what was told, so that
// ten minutes without an answer end in one message that is true then.
type sink struct {
	receiver, kind string
	log            *slog.Logger
	store          *store // nil: in memory

	policy  policy
	alerts  map[string]*tracked
	groups  map[string]*group
	dirty   bool
	saved   time.Time // when it was last tried
	retryAt time.Time
	tries   int
	warned  time.Time // when the log was last told that it fails; zero: it does not
	mourned time.Time // when the log was last told that a notification was given up
	flight  *notification
	results chan result
	wake    chan struct{}

	questions chan question // how alerts stand

	mu     sync.Mutex
	inbox  map[string]*Alert // the latest of each
	owed   map[string]bool   // alerts that it gets no more, and whose end it is owed, as it was told that they fire
	wanted *policy           // of a reload
	stats  SinkStats
}

type result struct {
	n   *notification
	err error
}

// SinkStats is how the deliveries to one place went.
type SinkStats struct {
	Receiver, Integration string
	Delivered             uint64            // notifications
	AttemptsFailed        uint64            // each of them is tried again or counted in Failed
	Failed                map[string]uint64 // notifications that were given up, by reason
	Dropped               map[string]uint64 // alerts that found no room, by reason
	Queue                 int               // alerts that are to be told
	Oldest                time.Time         // since when one of them is; zero: there is none
	FailingSince          time.Time         // zero: the last attempt was a success
	Problem               string            // of the last attempt
	NotSaved              string            // why the state is not on the disk
	SaveErrors            uint64
	Damaged               uint64 // files of the state that were set aside
}

// Reasons of failed notifications and dropped alerts.
const (
	reasonRejected = "rejected" // by the receiver, for good
	reasonExpired  = "expired"  // tried for giveUpAfter
	reasonFull     = "queue_full"
)

var (
	failedReasons  = []string{reasonRejected, reasonExpired}
	droppedReasons = []string{reasonFull}
)

func newSink(receiver, kind string, p policy, st *store, log *slog.Logger) *sink {
	s := &sink{receiver: receiver, kind: kind, log: log.With("receiver", receiver, "integration", kind), store: st, policy: p,
		alerts: map[string]*tracked{}, groups: map[string]*group{}, results: make(chan result, 1), wake: make(chan struct{}, 1), questions: make(chan question), inbox: map[string]*Alert{}, owed: map[string]bool{}}
	s.stats = SinkStats{Receiver: receiver, Integration: kind, Failed: map[string]uint64{}, Dropped: map[string]uint64{}}
	for _, reason := range failedReasons {
		s.stats.Failed[reason] = 0
	}
	for _, reason := range droppedReasons {
		s.stats.Dropped[reason] = 0
	}
	s.load(time.Now())
	return s
}

// put takes alerts, the urgent ones, the others or both, and returns at once.
func (s *sink) put(alerts map[string]*Alert, urgent, regular bool) {
	s.mu.Lock()
	for id, a := range alerts {
		if isUrgent := a.isUrgent(); (isUrgent && !urgent || !isUrgent && !regular) && !s.owed[id] {
			continue
		}
		_, known := s.inbox[id]
		if known || len(s.inbox) < alertsMax {
			s.inbox[id] = a
		} else {
			s.stats.Dropped[reasonFull]++
		}
	}
	s.mu.Unlock()
	s.nudge()
}

// apply has the sink go on with another policy.
func (s *sink) apply(p policy) {
	s.mu.Lock()
	s.wanted = &p
	s.mu.Unlock()
	s.nudge()
}

func (s *sink) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// state returns a copy of the figures.
func (s *sink) state() SinkStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.stats
	c.Failed, c.Dropped = maps.Clone(c.Failed), maps.Clone(c.Dropped)
	return c
}

// count changes the figures.
func (s *sink) count(change func(*SinkStats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.stats)
}

// run delivers until ctx ends; a delivery under way then gets stopGrace to end.
func (s *sink) run(ctx context.Context) {
	delivering, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			s.end(cancel)
			return
		case q := <-s.questions:
			q.answer <- s.standings(q.ids, time.Now())
			continue
		case <-s.wake:
		case r := <-s.results:
			s.settle(r, time.Now())
		case <-timer.C:
		}
		timer.Reset(s.step(delivering, time.Now()))
	}
}

// end waits for the delivery under way, and writes down how things stand.
func (s *sink) end(cancel context.CancelFunc) {
	if s.flight != nil {
		grace := time.NewTimer(stopGrace)
		defer grace.Stop()
		select {
		case r := <-s.results:
			s.settle(r, time.Now())
		case <-grace.C:
			cancel()
			if r := <-s.results; r.err == nil { // a failure is none of the receiver's
				s.settle(r, time.Now())
			}
		}
	}
	s.takeInbox(time.Now())
	s.save(time.Now(), true)
}

// step does what is due, and returns how long there is nothing to do.
func (s *sink) step(ctx context.Context, now time.Time) time.Duration {
	s.takePolicy()
	s.takeInbox(now)
	s.lapse(now)
	var next *notification
	if s.flight == nil && !now.Before(s.retryAt) {
		next = s.choose(now)
	}
	s.prune(now)
	s.save(now, false) // before it goes out: whoever continues after a crash gives it the same name
	if next != nil {
		s.flight = next
		go func(to integration) {
			ctx, cancel := context.WithTimeout(ctx, deliveryTimeout)
			defer cancel()
			s.results <- result{next, to.deliver(ctx, next)}
		}(s.policy.to)
	}
	return s.rest(now)
}

func (s *sink) takePolicy() {
	s.mu.Lock()
	wanted := s.wanted
	s.wanted = nil
	s.mu.Unlock()
	if wanted == nil {
		return
	}
	regroup := !slices.Equal(wanted.groupBy, s.policy.groupBy) || wanted.forward != s.policy.forward
	s.policy = *wanted
	for _, t := range s.alerts {
		if s.takes(t) {
			s.owe(t, false)
		} else if !s.owe(t, t.told && !t.gaveUp && !s.policy.forward) {
			s.remove(t)
		}
	}
	s.retryAt, s.tries = time.Time{}, 0
	for _, t := range s.alerts { // what the receiver has refused it may take now: a secret may be another as well
		if t.gaveUp && !t.over {
			t.told, t.gaveUp, s.dirty = false, false, true
		}
	}
	if regroup {
		before := s.groups
		s.groups = map[string]*group{}
		for _, t := range s.alerts {
			from := t.group
			s.enter(t, time.Now()) // names of notifications are never used again
			t.group.flushed, t.group.sent = later(t.group.flushed, from.flushed), later(t.group.sent, from.sent)
		}
		s.dirty = s.dirty || len(before) > 0
	}
}

// takes tells whether the receiver gets an alert, and not only the end of one.
func (s *sink) takes(t *tracked) bool { return s.policy.takes(t.alert) }

// owe notes whether the end of an alert is still to be told that the receiver does not get any more. It returns that.
func (s *sink) owe(t *tracked, owed bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if owed {
		s.owed[t.id] = true
	} else {
		delete(s.owed, t.id)
	}
	return owed
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (s *sink) takeInbox(now time.Time) {
	s.mu.Lock()
	inbox := s.inbox
	s.inbox = make(map[string]*Alert)
	s.mu.Unlock()
	for id, a := range inbox {
		s.merge(id, a, now)
	}
}

// merge takes over what an alert says now.
func (s *sink) merge(id string, a *Alert, now time.Time) {
	t := s.alerts[id]
	over := a.isOver(now)
	if t == nil {
		if over && !s.policy.forward || !s.policy.takes(a) {
			return // told long ago, never heard of, or not for this receiver any more
		}
		if t = s.add(id, a, now); t == nil {
			return
		}
	}
	t.alert = a
	if over {
		s.finish(t, now)
		return
	}
	t.expires = a.lapses(now)
	if t.over { // it fires again before anybody was told that it had ended: nothing has happened
		t.over, s.dirty = false, true
	}
	if s.policy.forward {
		t.told, t.gaveUp, t.since = false, false, now
	}
}

// add returns nil where there is no room, even by giving up what is less urgent.
func (s *sink) add(id string, a *Alert, now time.Time) *tracked {
	if len(s.alerts) >= alertsMax && !s.makeRoom(a) {
		s.count(func(c *SinkStats) { c.Dropped[reasonFull]++ })
		return nil
	}
	t := &tracked{id: id, alert: a, since: now}
	s.alerts[id] = t
	s.enter(t, now)
	s.dirty = true
	return t
}

// makeRoom gives up the oldest regular alert for an urgent one.
func (s *sink) makeRoom(a *Alert) bool {
	if !a.isUrgent() {
		return false
	}
	var oldest *tracked
	for _, t := range s.alerts {
		if !t.alert.isUrgent() && (oldest == nil || t.since.Before(oldest.since)) {
			oldest = t
		}
	}
	if oldest == nil {
		return false
	}
	s.remove(oldest)
	s.count(func(c *SinkStats) { c.Dropped[reasonFull]++ })
	return true
}

// enter puts an alert into its group.
func (s *sink) enter(t *tracked, now time.Time) {
	labels := map[string]string{}
	if !s.policy.forward {
		for _, name := range s.policy.groupBy {
			if value := t.alert.Labels[name]; value != "" {
				labels[name] = value
			}
		}
	}
	key := labelSet(labels)
	g := s.groups[key]
	if g == nil {
		g = &group{key: key, labels: labels, born: now, alerts: map[string]*tracked{}}
		s.groups[key] = g
	}
	t.group, g.alerts[t.id] = g, t
}

func (s *sink) remove(t *tracked) {
	delete(s.alerts, t.id)
	delete(t.group.alerts, t.id)
	s.owe(t, false)
	s.dirty = true
}

// finish notes that an alert has ended. Who was not told that it fires, because it was muted, or because telling failed for good, is not told that
// it has ended either.
func (s *sink) finish(t *tracked, now time.Time) {
	if t.over {
		return
	}
	t.over, s.dirty = true, true
	if t.told { // else it waits to be told for as long as before: what flaps must not put that off
		t.since = now
	}
	if s.policy.forward {
		return
	}
	if t.told && t.gaveUp || !t.told && s.muting(t, now) != audible {
		s.remove(t)
	}
}

// lapse ends what nobody has repeated.
func (s *sink) lapse(now time.Time) {
	for _, t := range s.alerts {
		if !t.over && !t.expires.After(now) {
			ended := *t.alert
			ended.EndsAt = t.expires
			t.alert = &ended
			s.finish(t, now)
		}
	}
}

func (s *sink) muting(t *tracked, now time.Time) muting {
	if s.policy.mutes == nil {
		return audible
	}
	return s.policy.mutes.of(t.alert, s.policy.quiet, now)
}

// isPending tells whether something of an alert is to be told now. That it has ended is told also to who was silent meanwhile; quiet hours
// hold it back.
func (s *sink) isPending(t *tracked, now time.Time) bool {
	if t.told && !t.over {
		return false
	}
	if s.policy.forward {
		return true
	}
	m := s.muting(t, now)
	return m == audible || t.over && t.told && m != quiet
}

// due returns when a group's next notification is to go out, and since when there is something to tell; ok: there will be one.
func (s *sink) due(g *group, now time.Time) (at time.Time, ok bool) {
	var since, repeat time.Time
	for _, t := range g.alerts {
		switch {
		case s.isPending(t, now):
			if since.IsZero() || t.since.Before(since) {
				since = t.since
			}
		case s.policy.repeat > 0 && t.told && !t.over && s.takes(t) && s.muting(t, now) == audible:
			repeat = later(g.sent, g.flushed).Add(s.policy.repeat)
		}
	}
	if !since.IsZero() {
		at, ok = since.Add(s.policy.wait), true
		if !g.flushed.IsZero() {
			at = later(at, g.flushed.Add(s.policy.interval))
		}
	}
	if !repeat.IsZero() && (!ok || repeat.Before(at)) {
		at, ok = repeat, true
	}
	return at, ok
}

// choose returns the notification that is due and was tried longest ago, so that one that always fails does not keep others waiting; nil
// where none is due.
func (s *sink) choose(now time.Time) *notification {
	var best *group
	var bestAt time.Time
	for _, g := range s.groups {
		at, ok := s.due(g, now)
		if !ok || at.After(now) {
			continue
		}
		if best == nil || cmp.Or(g.tried.Compare(best.tried), at.Compare(bestAt), cmp.Compare(g.key, best.key)) < 0 {
			best, bestAt = g, at
		}
	}
	if best == nil {
		return nil
	}
	best.tried = now
	return s.compose(best, now)
}

// compose makes a group's notification of how things are.
func (s *sink) compose(g *group, now time.Time) *notification {
	name := sha256.Sum256(fmt.Appendf(nil, "%s\xff%s\xff%d\xff%d", s.receiver, g.key, g.born.UnixNano(), g.sequence))
	n := &notification{ID: hex.EncodeToString(name[:16]), Receiver: s.receiver, GroupKey: "{}:" + g.key, GroupLabels: g.labels, Time: now, group: g}
	for _, id := range slices.Sorted(maps.Keys(g.alerts)) {
		t := g.alerts[id]
		pending := s.isPending(t, now)
		if !pending && (s.policy.forward || t.over || !s.takes(t) || s.muting(t, now) != audible) {
			continue
		}
		if s.policy.forward && len(n.Alerts) == batchMax {
			break
		}
		a := item{Alert: t.alert, id: id, Over: t.over, New: pending, expires: t.expires}
		n.Alerts = append(n.Alerts, a)
	}
	slices.SortStableFunc(n.Alerts, func(a, b item) int { return b.rank() - a.rank() })
	return n
}

// settle takes over how a delivery ended.
func (s *sink) settle(r result, now time.Time) {
	s.flight = nil
	s.dirty = s.dirty || !s.policy.forward
	if r.err == nil {
		s.delivered(r.n, now)
		return
	}
	g := r.n.group
	s.count(func(c *SinkStats) {
		c.AttemptsFailed++
		c.Problem = r.err.Error()
		if c.FailingSince.IsZero() {
			c.FailingSince = now
		}
	})
	f := deliveryError{}
	errors.As(r.err, &f)
	if g.failing.IsZero() {
		g.failing = now
	}
	switch {
	case f.permanent:
		s.giveUp(r, reasonRejected, now)
	case now.Sub(g.failing) >= giveUpAfter:
		s.giveUp(r, reasonExpired, now)
	case s.warned.IsZero() || now.Sub(s.warned) >= stillFailing:
		s.log.Warn("a notification could not be delivered; it is tried again", "err", r.err, "group", g.key)
		s.warned = now
	}
	if !f.permanent {
		s.tries++
		s.retryAt = now.Add(max(backOff(s.tries), min(f.after, retryAfterMax)))
	}
}

// backOff is the pause after a number of failures in a row: somewhere in the upper half of twice the one before.
func backOff(failures int) time.Duration {
	d := retryMin << min(failures-1, 16)
	d = min(d, retryMax)
	return d/2 + rand.N(d/2)
}

func (s *sink) delivered(n *notification, now time.Time) {
	s.count(func(c *SinkStats) {
		c.Delivered++
		c.FailingSince, c.Problem = time.Time{}, ""
	})
	if !s.warned.IsZero() {
		s.log.Info("notifications are delivered again")
	}
	s.tries, s.retryAt, s.warned = 0, time.Time{}, time.Time{}
	n.group.sent = now
	s.conclude(n, now, func(t *tracked) { t.told, t.gaveUp, t.toldAt = true, false, now })
}

// giveUp ends a notification that was not delivered. What it said is not tried again; that it still fires is, as a repeat.
func (s *sink) giveUp(r result, reason string, now time.Time) {
	s.count(func(c *SinkStats) { c.Failed[reason]++ })
	if s.mourned.IsZero() || now.Sub(s.mourned) >= givingUp {
		s.mourned = now
		s.log.Error("a notification was given up", "reason", reason, "err", r.err, "group", r.n.group.key, "alerts", len(r.n.Alerts))
	}
	s.conclude(r.n, now, func(t *tracked) { t.gaveUp, t.told = !t.told || t.gaveUp, true })
}

// conclude marks what a notification said of firing alerts, and forgets those that it said are over.
func (s *sink) conclude(n *notification, now time.Time, mark func(*tracked)) {
	g := n.group
	g.flushed, g.failing = now, time.Time{}
	g.sequence++
	for _, i := range n.Alerts {
		t := s.alerts[i.id]
		switch {
		case t == nil:
		case !i.Over && (!s.policy.forward || t.alert == i.Alert):
			mark(t)
			if t.over && t.gaveUp && !s.policy.forward {
				s.remove(t) // its end came while it was given up
			}
		case i.Over && t.over:
			s.remove(t)
		case i.Over && !s.takes(t):
			s.remove(t)
		case i.Over: // it fires again, and its end was told
			t.told, t.gaveUp, t.since = false, false, now
		}
	}
}

// prune forgets groups that nothing is left of.
func (s *sink) prune(now time.Time) {
	for key, g := range s.groups {
		if len(g.alerts) == 0 && !now.Before(g.flushed.Add(s.policy.interval)) && (s.flight == nil || s.flight.group != g) {
			delete(s.groups, key)
			s.dirty = true
		}
	}
}

// rest publishes how much there is to tell, and returns until when there is nothing to do.
func (s *sink) rest(now time.Time) time.Duration {
	pause := time.Hour
	if len(s.groups) > 0 || s.dirty {
		pause = lookAgain
	}
	queue, oldest := 0, time.Time{}
	for _, t := range s.alerts {
		if !t.over {
			pause = min(pause, t.expires.Sub(now))
		}
		if s.isPending(t, now) {
			if queue++; oldest.IsZero() || t.since.Before(oldest) {
				oldest = t.since
			}
		}
	}
	s.count(func(c *SinkStats) { c.Queue, c.Oldest = queue, oldest })
	if s.flight == nil {
		for _, g := range s.groups {
			if at, ok := s.due(g, now); ok {
				pause = min(pause, later(at, s.retryAt).Sub(now))
			}
		}
	}
	return max(pause, time.Millisecond)
}
