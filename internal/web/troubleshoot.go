package web

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/finding"
	"github.com/perfagent/perfagent/internal/wire"
)

const (
	// issuesMax bounds the issues that are listed, endedMax the findings that were over lately. The totals are of all.
	issuesMax, endedMax = 50, 20
	// calmMax is how many services a sentence names that are well.
	calmMax = 5
)

// TroubleshootOptions is what /troubleshoot/performance has to go by, beside alerts and what is served of performance and health.
type TroubleshootOptions struct {
	// Findings returns the open findings and those that ended lately; nil: nobody looks for any, for the reason that Off tells.
	Findings func() []*finding.Finding
	Off      func() string
	// Watching tells what is looked at; nil: unknown.
	Watching func() Watching
	// Foreseen tells what goes towards a limit; nil: unknown.
	Foreseen func() []finding.Foreseen
	// Reach is how people reach the agent; nil: by its defaults.
	Reach func() finding.Reach
	Now   func() time.Time // nil means time.Now
}

// Watching is how much is looked at for findings.
type Watching struct {
	Since    time.Time `json:"since"`
	Series   int       `json:"series" about:"of endpoints, targets, services and the host"`
	Learning int       `json:"series_learning" about:"of these, those that know too little yet to be judged"`
	Without  int       `json:"without_place" about:"endpoints and targets that find no place: the quietest"`
}

// Kinds of issues.
const (
	issueFinding    = "finding"
	issueAlert      = "alert"
	issueLevel      = "level"
	issueSaturation = "saturation"
	issueAgent      = "agent"
)

type troubleshooting struct {
	Status  string      `json:"status" about:"critical: an issue is; degraded: there are others than for information; healthy: there are none; unknown: nothing is looked at"`
	Summary string      `json:"summary" about:"one sentence"`
	Time    time.Time   `json:"time"`
	Service string      `json:"service,omitempty" about:"the filter"`
	Looking bool        `json:"looking" about:"whether anybody looks for findings"`
	Why     string      `json:"why_not,omitempty" about:"why nobody does"`
	Watch   *Watching   `json:"watching" about:"null where nobody looks"`
	Total   int         `json:"issues_total"`
	Issues  []issueJSON `json:"issues" about:"the most severe first, at most 50; the host's and the agent's whatever the filter"`
	// Foreseen are no issues yet.
	Foreseen []finding.Foreseen `json:"foreseen" about:"resources that go towards a limit, the earliest first"`
	Healthy  string             `json:"healthy" about:"what is well, in a sentence; empty where nothing is known of it"`
	Ended    []issueJSON        `json:"ended" about:"findings that were over within a day, the latest first, at most 20"`
}

type issueJSON struct {
	Kind      string     `json:"issue" about:"finding (unusual), alert (a rule fires), level (poor by its limits), saturation (nearly full), agent (what the agent itself suffers from)"`
	Severity  string     `json:"severity" about:"critical, error, warning, info"`
	Since     *time.Time `json:"since" about:"null where that is not known"`
	End       *time.Time `json:"end,omitempty"`
	Service   string     `json:"service_name,omitempty"`
	Namespace string     `json:"service_namespace,omitempty"`
	Method    string     `json:"method,omitempty"`
	Route     string     `json:"http_route,omitempty"`
	Summary   string     `json:"summary"`

	Effects   []finding.Effect     `json:"effects,omitempty" about:"of a finding: what else is unusual for the same reason, the worst first; the severity is that of the worst"`
	Phases    []finding.PhaseShift `json:"phases,omitempty" about:"where the time went"`
	Causes    []finding.Cause      `json:"probable_causes" about:"the likeliest first"`
	NextSteps []string             `json:"next_steps"`
	Evidence  *evidenceJSON        `json:"evidence,omitempty" about:"of a finding, in numbers"`
	Failures  []failureJSON        `json:"failures,omitempty" about:"of a finding of failures: those since it began that /requests keeps, by status or error type, most first"`
	Alerts    []alertBriefJSON     `json:"alerts,omitempty" about:"that fire for the same subject"`
}

// touches tells whether an issue, or an effect of it, is about a subject that is wanted.
func (o *issueJSON) touches(wanted func(*finding.Subject) bool) bool {
	f := finding.Finding{Measure: finding.Measure{Subject: finding.Subject{Service: o.Service, Namespace: o.Namespace, Method: o.Method, Route: o.Route}}, Effects: o.Effects}
	return f.Touches(wanted)
}

// evidenceJSON is what a finding rests on.
type evidenceJSON struct {
	ID      string `json:"finding_id" about:"as exchanges of /requests and trace have it in finding"`
	Finding string `json:"finding" about:"anomaly: unusual values; change: a level that is another one since"`
	finding.Measure
	Unit          string         `json:"unit"`
	Expected      *float64       `json:"expected" about:"of a change: the level before"`
	Low           *float64       `json:"low" about:"99 of 100 values were between low and high"`
	High          *float64       `json:"high"`
	Peak          *float64       `json:"peak" about:"the value farthest from what was expected; of a change: the level since"`
	Latest        *float64       `json:"latest"`
	EffectPercent *float64       `json:"effect_percent" about:"of peak against expected; null where nothing was expected"`
	Confidence    *float64       `json:"confidence" about:"0 to 1"`
	Score         *float64       `json:"score" about:"0 once a week by chance, 1 once in ten weeks"`
	Requests      uint64         `json:"requests,omitempty" about:"that it concerns so far"`
	Parts         []finding.Part `json:"parts,omitempty" about:"the series that are unusual together"`
	Until         *finding.Until `json:"until,omitempty" about:"when a limit is reached if it goes on like this"`
}

func evidenceOf(f *finding.Finding) *evidenceJSON {
	e := &evidenceJSON{ID: f.ID, Finding: f.Kind, Measure: f.Measure, Unit: f.Unit, Expected: rounded(f.Expected), Low: rounded(f.Low), High: rounded(f.High), Peak: rounded(f.Peak),
		Latest: rounded(f.Latest), Confidence: rounded(f.Confidence), Score: rounded(f.Score), Requests: f.Requests, Parts: f.Parts, Until: f.Until}
	if f.EffectPercent != nil {
		e.EffectPercent = rounded(*f.EffectPercent)
	}
	return e
}

// failureJSON is a kind of failure.
type failureJSON struct {
	ErrorType string `json:"error_type" about:"a status, or aborted or timeout"`
	Kept      int    `json:"kept" about:"of a sample"`
}

// failuresOf counts the kept failures that a finding is about.
func (t *troubleshooter) failuresOf(f *finding.Finding) (all []failureJSON) {
	if f.Metric != finding.ErrorRate || t.requests == nil {
		return nil
	}
	kept := make(map[string]int)
	for _, role := range []wire.Role{wire.RoleServer, wire.RoleClient} {
		t.requests.source.Each(analytics.RequestFailed, role, func(ex *wire.Exchange) {
			if f.Concerns(ex) {
				kept[ex.ErrorType]++
			}
		})
	}
	for errorType, n := range kept {
		all = append(all, failureJSON{errorType, n})
	}
	slices.SortFunc(all, func(a, b failureJSON) int {
		return cmp.Or(cmp.Compare(b.Kept, a.Kept), cmp.Compare(a.ErrorType, b.ErrorType))
	})
	return all
}

// alertBriefJSON is an alert within an issue; /alerts has all of it.
type alertBriefJSON struct {
	Name     string    `json:"alertname"`
	Severity string    `json:"severity,omitempty"`
	Since    time.Time `json:"active_at"`
	Summary  string    `json:"summary,omitempty"`
}

// troubleshootRoute serves the current issues.
func troubleshootRoute(o *ServerOptions) Route {
	t := &troubleshooter{o.Troubleshoot, o.Performance, o.Alerts, o.Agent, o.Requests}
	if t.Now == nil {
		t.Now = time.Now
	}
	if t.alerts.Now == nil {
		t.alerts.Now = t.Now
	}
	return Route{
		Path: "/troubleshoot/performance", Summary: "Current issues, the most severe first, each with probable causes, evidence and next steps.",
		Response:   troubleshooting{},
		Parameters: []Parameter{{Name: "service", Description: "service_name, a glob such as shop-* too; all without"}},
	}.serveJSON(func(q map[string]string) (any, error) { return t.document(q["service"]) })
}

type troubleshooter struct {
	TroubleshootOptions
	performance PerformanceOptions
	alerts      AlertsOptions
	agent       AgentOptions
	requests    *RequestsHandler // nil: none are kept
}

func (t *troubleshooter) document(service string) (*troubleshooting, error) {
	d := &troubleshooting{Time: shown(t.Now()), Service: service, Issues: []issueJSON{}, Ended: []issueJSON{}, Foreseen: []finding.Foreseen{}}
	chosen := func(name string) bool {
		matches, err := path.Match(service, name)
		return service == "" || service == name || matches && err == nil
	}
	t.addFindings(d, chosen)
	t.addAlerts(d, chosen)
	window, err := t.addLevels(d, chosen)
	if err != nil {
		return nil, err
	}
	t.addAgent(d)
	slices.SortStableFunc(d.Issues, func(a, b issueJSON) int {
		return cmp.Or(cmp.Compare(severityRank(a.Severity), severityRank(b.Severity)), cmp.Compare(sinceUnix(a.Since), sinceUnix(b.Since)))
	})
	if t.Foreseen != nil {
		for _, f := range t.TroubleshootOptions.Foreseen() {
			if f.Service == "" || chosen(f.Service) {
				d.Foreseen = append(d.Foreseen, f)
			}
		}
	}
	d.Total = len(d.Issues)
	d.Healthy = t.healthy(d, window, chosen)
	d.judge(window)
	d.Issues = d.Issues[:min(len(d.Issues), issuesMax)]
	return d, nil
}

// severityRank orders severities, the worst first; unknown ones come last.
func severityRank(severity string) int {
	if i := slices.Index(severities, severity); i >= 0 {
		return i
	}
	return len(severities)
}

// sinceUnix puts what is of no known age behind what is.
func sinceUnix(t *time.Time) int64 {
	if t == nil {
		return 1<<63 - 1
	}
	return t.Unix()
}

// worse returns the worse of two severities.
func worse(a, b string) string {
	if severityRank(b) < severityRank(a) {
		return b
	}
	return a
}

func (t *troubleshooter) addFindings(d *troubleshooting, chosen func(string) bool) {
	if t.Findings == nil {
		if t.Off != nil {
			d.Why = t.Off()
		}
		return
	}
	d.Looking = true
	if t.Watching != nil {
		w := t.TroubleshootOptions.Watching()
		w.Since = shown(w.Since)
		d.Watch = &w
	}
	for _, f := range finding.Incidents(t.TroubleshootOptions.Findings()) {
		if !f.Touches(func(u *finding.Subject) bool { return u.Service == "" || chosen(u.Service) }) {
			continue
		}
		issue := issueJSON{Kind: issueFinding, Severity: f.Severity, Since: instant(f.Start), End: f.End, Service: f.Service, Namespace: f.Namespace, Method: f.Method, Route: f.Route,
			Summary: f.Summary, Effects: f.Effects, Phases: f.Phases, Causes: append([]finding.Cause{}, f.Causes...), NextSteps: append([]string{}, f.NextSteps...), Evidence: evidenceOf(f), Failures: t.failuresOf(f)}
		switch {
		case f.End == nil:
			d.Issues = append(d.Issues, issue)
		case len(d.Ended) < endedMax:
			d.Ended = append(d.Ended, issue)
		}
	}
}

// addAlerts adds the alerts that fire to the finding of the same subject, or as issues of their own. Those of the same condition that
// differ in how bad it is, as the windows of an objective do, are one issue: the worst.
func (t *troubleshooter) addAlerts(d *troubleshooting, chosen func(string) bool) {
	if t.alerts.Manager == nil {
		return
	}
	conditions := map[string]int{}
	for _, a := range t.alerts.document(nil).Alerts {
		if a.FiredAt == nil || a.Service != "" && !chosen(a.Service) {
			continue
		}
		brief := alertBriefJSON{a.Name, a.Severity, shown(a.ActiveAt), a.Summary}
		i := slices.IndexFunc(d.Issues, func(o issueJSON) bool {
			return o.Kind == issueFinding && o.touches(func(u *finding.Subject) bool {
				return u.Service == a.Service && (a.Route == "" || u.Route == "" || u.Route == a.Route)
			})
		})
		if i >= 0 && a.Service != "" {
			d.Issues[i].Alerts = append(d.Issues[i].Alerts, brief)
			d.Issues[i].Severity = worse(d.Issues[i].Severity, a.Severity)
			continue
		}
		issue := issueJSON{Kind: issueAlert, Severity: a.Severity, Since: &brief.Since, Service: a.Service, Route: a.Route, Method: a.Labels["http_request_method"],
			Namespace: a.Labels["service_namespace"], Summary: a.Summary, Causes: []finding.Cause{}, NextSteps: []string{}, Alerts: []alertBriefJSON{brief}}
		if a.Summary == "" {
			issue.Summary = a.Name + " fires."
		}
		if a.NextStep != "" {
			issue.NextSteps = append(issue.NextSteps, t.asCommand(a.NextStep, a.Service))
		}
		condition := conditionOf(a.Labels)
		at, known := conditions[condition]
		if !known {
			conditions[condition] = len(d.Issues)
			d.Issues = append(d.Issues, issue)
			continue
		}
		others := d.Issues[at].Alerts
		if severityRank(a.Severity) < severityRank(d.Issues[at].Severity) {
			d.Issues[at] = issue
		} else {
			others, issue.Alerts = issue.Alerts, others
		}
		d.Issues[at].Alerts = append(issue.Alerts, others...)
	}
}

// conditionOf is an alert's identity but for how bad it is.
func conditionOf(labels map[string]string) string {
	condition := maps.Clone(labels)
	delete(condition, "severity")
	delete(condition, "burn_rate")
	text, _ := json.Marshal(condition)
	return string(text)
}

// addLevels adds services that are nearly full, and endpoints with a bad level of which nothing else tells: they are as bad as usual.
func (t *troubleshooter) addLevels(d *troubleshooting, chosen func(string) bool) (*analytics.Window, error) {
	window, err := t.performance.Engine.Window(analytics.LevelWindow)
	if err != nil {
		return nil, err
	}
	for _, r := range t.performance.health(window).Reasons {
		known := slices.ContainsFunc(d.Issues, func(o issueJSON) bool {
			return o.Kind != issueAgent && o.touches(func(u *finding.Subject) bool {
				return u.Service == r.Service && (u.Route == "" || u.Route == r.Route && (u.Method == "" || u.Method == r.Method))
			})
		})
		if !chosen(r.Service) || known && r.Aspect != issueSaturation {
			continue
		}
		issue := issueJSON{Kind: issueLevel, Severity: finding.Warning, Service: r.Service, Namespace: r.Namespace, Method: r.Method, Route: r.Route, Causes: []finding.Cause{}}
		switch {
		case r.Aspect == issueSaturation:
			issue.Kind, issue.Summary = issueSaturation, fmt.Sprintf("%s is nearly full: %s.", r.Service, r.Message)
			issue.NextSteps = []string{"Add workers or another instance, or bound what comes in. By what the limit shows: " + t.get("/performance/summary", "service", r.Service)}
		default:
			issue.Summary = fmt.Sprintf("%s %s of %s: %s. That is not unusual for it, or too little is known to say so.", r.Method, r.Route, r.Service, r.Message)
			issue.NextSteps = []string{"See where the time goes: " + t.get("/performance/summary", "service", r.Service), "See which requests were slow, or failed: " + t.get("/requests", "kind", "slowest,failed", "service", r.Service)}
			if r.Severe {
				issue.Severity = finding.Error
			}
		}
		d.Issues = append(d.Issues, issue)
	}
	return window, nil
}

// addAgent adds what the agent itself suffers from, as that bounds what it can say.
func (t *troubleshooter) addAgent(d *troubleshooting) {
	if t.agent.Source == nil {
		return
	}
	for _, reason := range t.agent.health().Reasons {
		if strings.HasPrefix(reason, "not visible") { // it is so since the start, and in /monitoring/health
			continue
		}
		d.Issues = append(d.Issues, issueJSON{Kind: issueAgent, Severity: finding.Warning, Summary: "The agent itself: " + reason + ".", Causes: []finding.Cause{},
			NextSteps: []string{"See how the agent is: " + t.get("/monitoring/health") + " (what was lost is missing in all that is said here)"}})
	}
}

// asCommand makes the path that a rule's next step begins with a command to copy, of the service.
func (t *troubleshooter) asCommand(step, service string) string {
	page, rest, _ := strings.Cut(step, " ")
	u, err := url.Parse(page)
	if err != nil || !strings.HasPrefix(page, "/") || u.Path != "/requests" {
		return step
	}
	parameters := []string{}
	for name, values := range u.Query() {
		parameters = append(parameters, name, values[0])
	}
	if service != "" {
		parameters = append(parameters, "service", service)
	}
	return t.get(u.Path, parameters...) + " " + rest
}

// get is the command that shows what is at a path, with the parameters of names and values.
func (t *troubleshooter) get(path string, parameters ...string) string {
	reach := finding.Reach{}
	if t.Reach != nil {
		reach = t.TroubleshootOptions.Reach()
	}
	query := url.Values{}
	for i := 0; i+1 < len(parameters); i += 2 {
		query.Set(parameters[i], parameters[i+1])
	}
	if len(query) > 0 {
		path += "?" + strings.ReplaceAll(query.Encode(), "%2C", ",") // as people write it
	}
	return reach.Get(path)
}

// healthy names the services that nothing is said of.
func (t *troubleshooter) healthy(d *troubleshooting, window *analytics.Window, chosen func(string) bool) string {
	var calm []string
	more := 0
	for i := range window.Services {
		s := &window.Services[i]
		if !chosen(s.Service) || slices.ContainsFunc(d.Issues, func(o issueJSON) bool {
			return o.touches(func(u *finding.Subject) bool { return u.Service == s.Service && u.Namespace == s.Namespace })
		}) {
			continue
		}
		if len(calm) >= calmMax {
			more++
			continue
		}
		calm = append(calm, fmt.Sprintf("%s (%s)", qualified(s.Namespace, s.Service), plural(s.Endpoints, "endpoint")))
	}
	if len(calm) == 0 {
		return ""
	}
	text := strings.Join(calm, ", ")
	if more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	text += ": within their limits in the last five minutes"
	switch {
	case !d.Looking:
		return text + "."
	case d.learning():
		return text + "; what is usual for them is still being learned."
	}
	return text + ", and nothing unusual."
}

// learning tells whether most of what is watched cannot be judged yet.
func (d *troubleshooting) learning() bool {
	return d.Watch != nil && 2*d.Watch.Learning >= d.Watch.Series
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

// judge sets the status and the sentence.
func (d *troubleshooting) judge(window *analytics.Window) {
	serious := 0
	d.Status = healthy
	for i := range d.Issues {
		if severityRank(d.Issues[i].Severity) < severityRank(finding.Info) {
			serious++
			d.Status = degraded
		}
	}
	switch {
	case serious > 0 && d.Issues[0].Severity == finding.Critical:
		d.Status = critical
	case serious == 0 && !d.Looking && len(window.Services) == 0:
		d.Status = unknown
	case serious == 0 && d.learning():
		d.Status = unknown
	}
	if len(d.Issues) > 0 {
		d.Summary = plural(len(d.Issues), "issue") + ": " + d.Issues[0].Summary
		if len(d.Issues) > 1 {
			d.Summary = plural(len(d.Issues), "issue") + "; first of all: " + d.Issues[0].Summary
		}
		return
	}
	switch w := d.Watch; {
	case !d.Looking:
		d.Summary = "Nobody looks for what is unusual: " + cmp.Or(d.Why, "it is turned off") + ". No alert fires, and no level is bad."
	case w == nil:
		d.Summary = "Nothing unusual."
	case d.learning():
		d.Summary = fmt.Sprintf("Too early to say what is unusual: %d series are watched since %s, and %d of them are still learning what is usual (five minutes with requests). "+
			"No alert fires, and no level is bad.", w.Series, clockText(w.Since), w.Learning)
	default:
		d.Summary = fmt.Sprintf("Nothing unusual since %s, watching %d series", clockText(d.quietSince()), w.Series)
		if w.Learning > 0 {
			d.Summary += fmt.Sprintf(", %d of which are still learning what is usual", w.Learning)
		}
		if w.Without > 0 {
			d.Summary += fmt.Sprintf("; %s not watched for want of places", plural(w.Without, "endpoint"))
		}
		d.Summary += "."
	}
}

func clockText(t time.Time) string { return t.UTC().Format("15:04 UTC on 2 January") }

// quietSince is when the latest finding ended, or the looking began.
func (d *troubleshooting) quietSince() time.Time {
	at := d.Watch.Since
	for i := range d.Ended {
		if end := d.Ended[i].End; end != nil && end.After(at) {
			at = *end
		}
	}
	return at
}
