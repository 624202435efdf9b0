package finding

import "fmt"

// explain fills in what a finding comes from, and its words.
func explain(f *Finding, _ *Evidence) {
	f.Summary = fmt.Sprintf("%s of %s: %.4g %s, usually %.4g", MetricOf(f.Metric).Words, f.Subject, f.Peak, f.Unit, f.Expected)
}

// String names a subject for people.
func (s Subject) String() string {
	name := s.Service
	if s.Namespace != "" {
		name = s.Namespace + "/" + name
	}
	switch {
	case s.Address != "":
		return fmt.Sprintf("%s to %s:%d", name, s.Address, s.Port)
	case s.Route != "" || s.Method != "":
		return s.Method + " " + s.Route + " of " + name
	case name != "":
		return name
	case s.Device != "":
		return s.Device
	}
	return "the host"
}
