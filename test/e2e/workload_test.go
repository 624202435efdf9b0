package e2e

import (
	"testing"
)

// Every shape of traffic runs without an agent: what fails here is the workload's fault. Needs no root.
func TestWorkloads(t *testing.T) {
	running, _ := startKinds(t, everyKind)
	for _, c := range trafficCases {
		for _, kind := range c.kinds {
			t.Run(c.name+"/"+string(kind), func(t *testing.T) {
				if running[kind] == nil {
					t.Skipf("%s is not installed", kind)
				}
				b := newBook(t)
				c.run(b, running[kind])
				b.settle(running[kind])
			})
		}
	}
}
