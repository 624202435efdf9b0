package e2e

import (
	"testing"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/churn"
)

const (
	// shortConnections is how many the test of short connections makes, each way to end them; prime.
	shortConnections = 20_011
	// keptEach connections are open at once in each of keptProcesses, which have both ends: 20,001 in all.
	keptEach, keptProcesses = 6_667, 3
)

// churned checks that the books show so many exchanges in each role and nothing else: none lost and, five seconds later at the
// latest, no connection left and none active.
func churned(t *testing.T, a *agent.Agent, each int) {
	t.Helper()
	books, err := churn.Settle(a, each)
	if err != nil {
		t.Fatal(err)
	}
	if !books.Right(each) {
		t.Errorf("expected %d exchanges in each role, none lost and nothing left of them; got %+v", each, books)
	}
}

// Connections whose client sends its request and is gone, by an orderly end or by a reset, are all in the books, at both ends,
// and leave nothing behind: also without the sweep.
func TestE2EChurnShort(t *testing.T) {
	requireRoot(t)
	for _, way := range []string{"end", "reset", "end without a sweep", "reset without a sweep"} {
		t.Run(way, func(t *testing.T) {
			s, err := churn.Serve()
			if err != nil {
				t.Fatal(err)
			}
			options := agent.Options{Ports: []int{s.Port}, NoTrace: true}
			if len(way) > len("reset") {
				options.Env = []string{"PERFAGENT_REFUSE_PROGRAMS=run_sweep,iter_sweep"}
			}
			a := startAgent(t, options)
			err = s.Short(shortConnections, way[0] == 'r')
			served := s.Close()
			if err != nil {
				t.Fatal(err)
			}
			if served != shortConnections {
				t.Fatalf("the server read %d requests of %d", served, shortConnections)
			}
			churned(t, a, shortConnections)
		})
	}
}

// Very many connections that are kept, each with a request in turn, lose nothing with default settings.
func TestE2EChurnKept(t *testing.T) {
	requireRoot(t)
	var holders []*churn.Holder
	var ports []int
	for range keptProcesses {
		h, err := churn.StartHolder(keptEach)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(h.Stop)
		holders, ports = append(holders, h), append(ports, h.Port)
	}
	a := startAgent(t, agent.Options{Ports: ports, NoTrace: true})
	each := func(do func(*churn.Holder) error) {
		for _, h := range holders {
			if err := do(h); err != nil {
				t.Fatal(err)
			}
		}
	}
	each((*churn.Holder).Round)
	each((*churn.Holder).Round)
	each((*churn.Holder).Close)
	churned(t, a, 2*keptProcesses*keptEach)
}
