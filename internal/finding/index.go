package finding

import (
	"sync/atomic"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/wire"
)

// Indexer finds the open finding that an exchange belongs to among those that are published, whenever it is asked. Where there are none
// it costs a few loads. It may be used from any goroutine.
type Indexer struct {
	findings func() []*Finding
	latest   atomic.Pointer[indexed]
}

// indexed is an index with what it was made of.
type indexed struct {
	of    []*Finding
	index *Index
}

// NewIndexer returns an Indexer of published findings, whose slice is another one when they are others.
func NewIndexer(findings func() []*Finding) *Indexer { return &Indexer{findings: findings} }

// Of returns the ID of the open finding that an exchange belongs to; "" for none.
func (x *Indexer) Of(ex *wire.Exchange) string {
	all := x.findings()
	if len(all) == 0 {
		return ""
	}
	known := x.latest.Load()
	if known == nil || len(known.of) != len(all) || &known.of[0] != &all[0] {
		known = &indexed{all, NewIndex(all)}
		x.latest.Store(known)
	}
	if known.index == nil {
		return ""
	}
	u := exchangeSubject(ex)
	return known.index.Find(&u, ex.Time.Add(time.Duration(max(ex.Duration(), 0))))
}

// Concerns tells whether a finding is about the endpoint or target of an exchange, which ended since it began and, if it is over, before that.
func (f *Finding) Concerns(ex *wire.Exchange) bool {
	at := ex.Time.Add(time.Duration(max(ex.Duration(), 0)))
	u := exchangeSubject(ex)
	return f.Service != "" && f.concerns(&u) && !at.Before(f.Start) && (f.End == nil || !at.After(*f.End))
}

// exchangeSubject is the endpoint or target that an exchange is counted for.
func exchangeSubject(ex *wire.Exchange) Subject {
	u := Subject{Role: ex.Role.String(), Service: analytics.Printable(ex.Service), Namespace: analytics.Printable(ex.Namespace), Method: ex.Verb}
	if ex.Role == wire.RoleClient {
		u.Address, u.Port = analytics.ServerAddress(ex)
	} else {
		u.Route = analytics.PrintablePath(ex.Name)
	}
	return u
}

// Index finds the open finding that an exchange belongs to. It never changes.
type Index struct {
	services map[serviceID][]*Finding
}

// NewIndex returns an index of the open ones of some findings; nil where none of them is of requests.
func NewIndex(all []*Finding) *Index {
	var x *Index
	for _, f := range all {
		if f.End != nil || f.Service == "" {
			continue
		}
		if x == nil {
			x = &Index{services: make(map[serviceID][]*Finding)}
		}
		x.services[f.id()] = append(x.services[f.id()], f)
	}
	return x
}

// Find returns the ID of the finding that an exchange of an endpoint or target belongs to, which ended at a time: that of the narrowest
// subject; "" for none. A nil Index knows none.
func (x *Index) Find(u *Subject, at time.Time) string {
	if x == nil {
		return ""
	}
	var best *Finding
	for _, f := range x.services[u.id()] {
		if f.concerns(u) && !at.Before(f.Start) && (best == nil || f.narrowness() > best.narrowness()) {
			best = f
		}
	}
	if best == nil {
		return ""
	}
	return best.ID
}

// concerns tells whether a finding is about an endpoint or target. One about a service's resources is about all that it serves.
func (f *Finding) concerns(u *Subject) bool {
	if f.Role == "" && u.Role != "server" || !f.Subject.covers(u) {
		return false
	}
	named := false // endpoints
	for i := range f.Parts {
		if p := &f.Parts[i]; !p.whole() {
			if p.Subject == *u {
				return true
			}
			named = true
		}
	}
	return !named
}

func (f *Finding) narrowness() (n int) {
	for _, is := range [...]bool{f.Route != "", f.Method != "", f.Address != ""} {
		if is {
			n++
		}
	}
	return n
}
