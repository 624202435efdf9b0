package notify

import "time"

// Alert is one alert as its rule sees it at the moment it is sent: Labels say which one it is (no two alerts that are
// alive have the same), Annotations what to tell of it. StartsAt is when it began to fire, and stays the same for as long
// as it fires, over restarts of the agent too. EndsAt zero or in the future: it fires; in the past: it is resolved.
// GeneratorURL leads to where the alert comes from, and may be empty.
type Alert struct {
	Labels, Annotations map[string]string
	StartsAt, EndsAt    time.Time
	GeneratorURL        string

	// Resumed says that the alert fired before the agent's start already, and was told of then: that it fires is no news.
	Resumed bool
	// Doubtful says that the alert may have fired before the agent's start: it was there as soon as rules were evaluated again, and
	// nothing was remembered of it. StartsAt may then be another than before.
	Doubtful bool
}
