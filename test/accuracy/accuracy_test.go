package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/perfagent/perfagent/test/agent"
	"github.com/perfagent/perfagent/test/clock"
	"github.com/perfagent/perfagent/test/servers"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := servers.Cleanup(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// Every case runs, the clocks of instrumented servers see every instant in order, and an agent that reported exactly
// what they say has no error, while one that is off by three times the limit has.
func TestTruths(t *testing.T) {
	if err := preferSelf(); err != nil {
		t.Skip(err)
	}
	b := &bench{endConnections: 1}
	t.Cleanup(func() {
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	})
	if _, err := b.startServers(); err != nil {
		t.Fatal(err)
	}
	if err := b.separate(); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		for _, kind := range c.kinds {
			if b.running[kind] == nil {
				continue
			}
			t.Run(c.name+"/"+string(kind), func(t *testing.T) {
				truths, err := b.truths(c, kind)
				if err != nil {
					t.Fatal(err)
				}
				right, off := &row{server: string(kind), name: c.name, role: "server"}, &row{role: "server"}
				for _, tr := range truths {
					if tr.role == "client" {
						continue
					}
					right.sent++
					checkOrder(t, tr, instrumented(kind))
					right.add(tr, reported(tr, 0))
					late := reported(tr, int64(3*max(limitNS, limitRelative*float64(max(tr.responded.After, tr.finished.After)-tr.start.Before))))
					late.UserAgent += "x"
					off.add(tr, late)
				}
				if right.print() != 0 {
					t.Error("a right agent has errors")
				}
				if off.fields != right.sent {
					t.Errorf("%d of %d wrong user agents are seen", off.fields, right.sent)
				}
				for _, q := range []*quantity{&off.first, &off.duration} {
					if len(q.samples) == 0 {
						continue
					}
					if us, above := q.at(0.5); !above {
						t.Errorf("an agent that is three limits late is only %.0f us off", us)
					}
				}
			})
		}
	}
}

func checkOrder(t *testing.T, tr truth, full bool) {
	t.Helper()
	spans := []clock.Span{tr.start, tr.read, tr.responded, tr.finished}
	var last clock.Span
	for i, s := range spans {
		if !s.Known() {
			if full && tr.errorType == "" {
				t.Errorf("%s: instant %d has no clock", tr.id, i)
			}
			continue
		}
		if s.Before > s.After || s.After < last.Before {
			t.Errorf("%s: instant %d out of order: %v", tr.id, i, spans)
		}
		last = s
	}
}

// reported is what an agent would say that is late by that much with every response.
func reported(tr truth, late int64) agent.Exchange {
	middle := func(s clock.Span) int64 { return (s.Before + s.After) / 2 }
	difference := func(from, to clock.Span) *int64 {
		d := max(middle(to)-middle(from), 0)
		return &d
	}
	e := agent.Exchange{Role: tr.role, Status: tr.status, ErrorType: tr.errorType, Protocol: protocolOf(tr.result), Method: methodOf(tr.result),
		ClientPort: tr.clientPort, ServerPort: tr.serverPort, RequestSize: &tr.result.RequestBodySize, ResponseSize: &tr.result.BodySize}
	n, _ := strconv.Atoi(strings.TrimPrefix(tr.id, "accuracy-"))
	f := fieldsOf(n)
	e.TraceID, e.SpanID, e.UserAgent, e.ForwardedFor = f.traceID, f.spanID, f.userAgent, f.forwardedFor
	read := tr.read
	if !read.Known() {
		read = tr.start
	}
	e.DurationNS, e.QueueNS = difference(tr.start, tr.finished), difference(tr.start, read)
	e.ProcessingNS, e.TransferNS = difference(read, tr.responded), difference(tr.responded, tr.finished)
	*e.ProcessingNS += late
	*e.DurationNS += late
	return e
}
