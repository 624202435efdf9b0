package demo

import (
	"fmt"
	"time"
)

// Kind is a kind of fault.
type Kind int

// The kinds of faults; 0 is none.
const (
	Slow   Kind = 1 + iota // a downstream that takes longer
	Errors                 // one that fails
	Hog                    // a processor that is busy with something else
	Lock                   // a lock that is held for long
	kinds
)

// nature is what a kind of fault does, and where it shows.
type nature struct {
	part  string // that has it
	comes string // a sentence with its future; %d is the strength
	watch string
}

var natures = [kinds]nature{
	Slow: {Payments, "payments gets slow, by %d ms a call",
		"Endpoints, orders POST /orders and GET /orders/{id}: processing grows; Outgoing calls: its calls of payments do"},
	Errors: {Catalogue, "catalogue fails, %d of 100 requests",
		"Overview: failures of catalogue, and of front and orders, which call it"},
	Hog: {Orders, "orders computes something else, %d %% of a processor",
		"Endpoints, one of orders: its times and the processor time of its service"},
	Lock: {Database, "database holds its table of orders locked, for %d ms at a time",
		"Endpoints, database GET /tables/orders/{id}: slow without processor time; its users and products are not"},
}

func (k Kind) of() nature {
	if k <= 0 || k >= kinds {
		return nature{}
	}
	return natures[k]
}

// Fault is one that comes and goes.
type Fault struct {
	Kind     Kind
	At, End  time.Duration // since the shop opened
	Strength int           // of Slow and Lock in milliseconds, of Errors and Hog in percent
}

// Part is who has the fault.
func (f Fault) Part() string { return f.Kind.of().part }

// Says is what the fault does, as a part of a sentence.
func (f Fault) Says() string { return fmt.Sprintf(f.Kind.of().comes, f.Strength) }

// Watch is where the fault shows on the dashboard.
func (f Fault) Watch() string { return f.Kind.of().watch }

// Learned is after what time the agent knows what is usual of the shop, and names what is not: it judges a series from its 30th value on, and
// has one each 10 s. Those of calls between services begin a little later than those of services, and causes need them: of 197 series that
// have to learn 163 do not know at 5:03, 56 at 5:34 and 41 at 5:49, most of which are of what happens seldom.
const Learned = 5*time.Minute + 50*time.Second

// The faults before Learned are mild and short, so that they show in charts and stay rare among the values that are learned from; the others
// are for the agent to find. It takes what is unusual for over a minute or more after the last unusual value, and what begins before that for a
// part of the same incident: so there are 80 s between them, and the first two come before ten minutes are over.
var (
	early = []Fault{
		{Slow, 40 * time.Second, 60 * time.Second, 60},
		{Errors, 110 * time.Second, 125 * time.Second, 10},
		{Hog, 180 * time.Second, 200 * time.Second, 15},
		{Lock, 240 * time.Second, 255 * time.Second, 40},
	}
	late = []Fault{
		{Slow, 0, 50 * time.Second, 500},
		{Errors, 130 * time.Second, 175 * time.Second, 40},
		{Lock, 260 * time.Second, 305 * time.Second, 400},
		{Hog, 390 * time.Second, 435 * time.Second, 40},
	}
)

const (
	lateFrom  = Learned + 10*time.Second
	lateEvery = 9 * time.Minute
)

// Next returns the first fault that begins at an instant or later.
func Next(since time.Duration) Fault {
	for _, f := range early {
		if f.At >= since {
			return f
		}
	}
	for round := lateFrom; ; round += lateEvery {
		for _, f := range late {
			if f.At+round >= since {
				f.At, f.End = f.At+round, f.End+round
				return f
			}
		}
	}
}
