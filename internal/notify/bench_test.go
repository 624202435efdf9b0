package notify

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// What 1,000 alerts that fire cost each time that they are repeated, and what writing them down does.
func BenchmarkAlerts(b *testing.B) {
	var alerts []Alert
	for i := range alertsMax {
		alerts = append(alerts, alert("Slow", "number", fmt.Sprint(i)))
	}
	path := b.TempDir()
	n, err := New(Options{Config: simple(), Path: path, deliverTo: func(*Receiver, int) integration { return &listener{} }})
	if err != nil {
		b.Fatal(err)
	}
	s := n.sinks["hook"].sink
	n.Send(alerts)
	s.step(context.Background(), time.Now())
	b.Run("repeat", func(b *testing.B) {
		for b.Loop() {
			n.Send(alerts)
			s.step(context.Background(), time.Now())
		}
	})
	b.Run("write", func(b *testing.B) {
		for b.Loop() {
			s.dirty = true
			s.save(time.Now(), true)
		}
	})
}
