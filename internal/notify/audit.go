package notify

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// auditBytesMax is when the audit begins a new file; the one before it is kept.
const auditBytesMax = 8 << 20

// audit has a JSON line for each decision about a remedy and for how it ended.
type audit struct{ path string } // "": there is none

type auditLine struct {
	Time       time.Time         `json:"time"`
	Remedy     string            `json:"remedy"`
	Decision   string            `json:"decision"` // run, dry-run, rate-limited, silenced, refused, unknown; then done or failed
	Reason     string            `json:"reason,omitempty"`
	StartsAt   time.Time         `json:"alert_starts_at"`
	Labels     map[string]string `json:"alert_labels"`
	DurationMS int64             `json:"duration_ms,omitempty"`
	Output     string            `json:"output,omitempty"`
}

// exists tells whether something was decided before.
func (a *audit) exists() bool {
	for _, name := range []string{a.path, a.path + ".1"} {
		if info, err := os.Lstat(name); a.path != "" && err == nil && info.Size() > 0 {
			return true
		}
	}
	return false
}

// write appends a line. The file is opened each time: lines are rare, and who moves it away gets a new one.
func (a *audit) write(line auditLine) error {
	if a.path == "" {
		return nil
	}
	line.Time, line.StartsAt = line.Time.UTC(), line.StartsAt.UTC()
	data, err := json.Marshal(line)
	if err != nil {
		return fmt.Errorf("encode a line of %s: %w", a.path, err)
	}
	if info, err := os.Stat(a.path); err == nil && info.Size() >= auditBytesMax {
		if err := os.Rename(a.path, a.path+".1"); err != nil {
			return fmt.Errorf("begin a new %s: %w", filepath.Base(a.path), err)
		}
	}
	f, err := os.OpenFile(a.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the audit: %w", err)
	}
	_, err = f.Write(append(data, '\n'))
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the audit: %w", err)
	}
	return nil
}
