package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/perfagent/perfagent/test/faults/link"
	"github.com/perfagent/perfagent/test/faults/recording"
)

// fault is one kind of what goes wrong.
type fault struct {
	name string
	// inject lets it go wrong, says how much, and returns what ends it. nil: nothing goes wrong.
	inject func(r *run) (detail string, undo func() error, err error)
}

// normalRuns is how many recordings without a fault there are at most: hours.
const normalRuns = 2

func (f *fault) most() int {
	if f.inject == nil {
		return normalRuns
	}
	return 1 << 10
}

// run is a recording under way.
type run struct {
	*rig
	random *rand.Rand
	load   *load
	of     string // whose fault it is, set by inject where that is up to chance

	began       time.Time
	usedAtBegin time.Duration // processor time of the shop
}

// between is a random number.
func (r *run) between(low, high float64) float64 { return low + r.random.Float64()*(high-low) }

var faults = []fault{
	{"cpu-hog", hogCPU},
	{"cpu-limit", limitCPU},
	{"memory-pressure", pressMemory},
	{"slow-disk", slowDisk},
	{"packet-delay", delayPackets},
	{"packet-loss", losePackets},
	{"lock-contention", holdLock},
	{"slow-downstream", slowStore},
	{"error-burst", failSome},
	{"traffic-burst", burst},
	{"slower-deploy", deploySlower},
	{"pool-exhausted", holdPool},
	{recording.Normal, nil},
}

func hogCPU(r *run) (string, func() error, error) {
	period := time.Duration(r.between(25, 80)) * time.Millisecond
	stop, err := r.hog(period)
	return fmt.Sprintf("another program takes the processors for %s at a time, half of their time", period), stop, err
}

func limitCPU(r *run) (string, func() error, error) {
	used := float64(r.groups.usedOr0("shop")-r.usedAtBegin) / float64(time.Since(r.began))
	limit := max(used*r.between(.6, .85), .05)
	return fmt.Sprintf("the shop may use %.2f processors, of which it used %.2f", limit, used),
		func() error { return r.groups.limitCPU("shop", 0) }, r.groups.limitCPU("shop", limit)
}

func pressMemory(r *run) (string, func() error, error) {
	leak := 66 + r.random.IntN(10)
	return fmt.Sprintf("the shop takes %d MB more, of %d MB that its group may have", leak, shopMemory>>20),
		func() error { return r.deploy(1) }, r.setShop(shopFaults{LeakMB: leak})
}

func slowDisk(r *run) (string, func() error, error) {
	orders := r.load.rateOf(3)
	operations := int(math.Ceil(orders * r.between(1.6, 2)))
	return fmt.Sprintf("the disk does %d operations a second, of which there are %.0f orders", operations, orders),
		func() error { return r.groups.limitDisk("shop", r.disk.backing, 0) }, r.groups.limitDisk("shop", r.disk.backing, operations)
}

func delayPackets(r *run) (string, func() error, error) {
	q := link.Quality{Delay: time.Duration(r.between(15, 60) * float64(time.Millisecond)), Jitter: time.Millisecond}
	r.link.Set(q)
	return fmt.Sprintf("packets between shop and store take %s longer in each direction", q.Delay.Round(time.Millisecond)), r.wellLink, nil
}

func losePackets(r *run) (string, func() error, error) {
	q := link.Quality{Loss: r.between(.06, .15)}
	r.link.Set(q)
	return fmt.Sprintf("%.0f %% of the packets between shop and store are lost", 100*q.Loss), r.wellLink, nil
}

func holdLock(r *run) (string, func() error, error) {
	ms := r.between(30, 120)
	return fmt.Sprintf("a report holds the lock of the stock for %.0f ms at a time", ms), r.wellShop, r.setShop(shopFaults{HoldLockMS: ms})
}

func slowStore(r *run) (string, func() error, error) {
	ms := r.between(20, 100)
	return fmt.Sprintf("the store takes %.0f ms longer", ms), r.wellStore, r.setStore(shopFaults{DelayMS: ms})
}

func failSome(r *run) (string, func() error, error) {
	share := r.between(.1, .6)
	if r.random.IntN(2) == 0 {
		r.of = "store"
		return fmt.Sprintf("%.0f %% of the store's answers are errors", 100*share), r.wellStore, r.setStore(shopFaults{ErrorShare: share})
	}
	r.of = "shop"
	return fmt.Sprintf("%.0f %% of the shop's own answers are errors", 100*share), r.wellShop, r.setShop(shopFaults{ErrorShare: share})
}

func burst(r *run) (string, func() error, error) {
	factor := r.between(3, 6)
	r.load.setFactor(factor)
	return fmt.Sprintf("%.1f times the requests", factor), func() error { r.load.setFactor(1); return nil }, nil
}

func deploySlower(r *run) (string, func() error, error) {
	work := r.between(8, 15)
	return fmt.Sprintf("a version of the shop that computes %.0f times as long", work),
		func() error { return r.deploy(1) }, r.deploy(work)
}

func holdPool(r *run) (string, func() error, error) {
	ms := r.between(30, 120)
	detail := fmt.Sprintf("an export holds all connections to the store for %.0f ms at a time", ms)
	return detail, r.wellShop, r.setShop(shopFaults{HoldPoolMS: ms})
}
