package notify

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"
)

// logSender writes a line for each alert.
type logSender struct{ log *slog.Logger }

func (s *logSender) deliver(ctx context.Context, n *notification) error {
	for i := range n.Alerts {
		a := &n.Alerts[i]
		message, level := "alert firing", slog.LevelWarn
		switch severity := a.Labels[labelSeverity]; {
		case a.Over:
			message, level = "alert resolved", slog.LevelInfo
		case severityUrgent(severity):
			level = slog.LevelError
		case severity == "info":
			level = slog.LevelInfo
		}
		if !a.New && !a.Over {
			message = "alert still firing"
		}
		fields := []any{labelName, oneLine(a.name()), "summary", oneLine(a.summary()), "starts_at", a.StartsAt.UTC().Format(time.RFC3339)}
		if advice := a.advice(); advice != "" && a.New {
			fields = append(fields, "next", oneLine(advice))
		}
		if a.Over {
			fields = append(fields, "ends_at", a.EndsAt.UTC().Format(time.RFC3339))
		}
		for _, name := range slices.Sorted(maps.Keys(a.Labels)) {
			if name != labelName {
				fields = append(fields, name, oneLine(a.Labels[name]))
			}
		}
		s.log.Log(ctx, level, message, fields...)
	}
	return nil
}
