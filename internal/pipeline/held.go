package pipeline

import (
	"os"
	"time"

	"github.com/perfagent/perfagent/internal/probes"
	"github.com/perfagent/perfagent/internal/wire"
)

// Held is a handler that stands still at a record while the file exists. Tests fill the queue in front of it so
// (PERFAGENT_HOLD_WORKER).
type Held struct {
	probes.Handler
	File string
}

// Record implements probes.Handler.
func (h Held) Record(rec *wire.Record) {
	for {
		if _, err := os.Stat(h.File); err != nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	h.Handler.Record(rec)
}
