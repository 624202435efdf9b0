package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/query"
	"github.com/perfagent/perfagent/internal/report"
	"github.com/perfagent/perfagent/internal/wire"
)

const (
	pastWindowMin = 30 * time.Second // three intervals of the history, so that a range has two of them whole
	pastWindowMax = report.RangeMax
	// pastBytesMax is what is unpacked of requests in about two seconds. Where there is more, steps become hours.
	pastBytesMax = 16 << 20
	// pastJudged are the requests that a level needs: a few are beyond the 95th percentile.
	pastJudged = 60
)

// The types of what was, as JSON: names are those of a summary.

type pastJSON struct {
	From           time.Time `json:"from" about:"of what was read: whole intervals of the history"`
	To             time.Time `json:"to"`
	CountedSeconds float64   `json:"counted_seconds" about:"of it in which the agent counted; rates are over this time"`
	pastFigures
	ServicesTotal  int            `json:"services_total"`
	Services       []pastService  `json:"services" about:"the busiest first; as many as limit"`
	EndpointsTotal int            `json:"endpoints_total"`
	Endpoints      []pastEndpoint `json:"endpoints" about:"the busiest first; as many as limit"`
	TargetsTotal   int            `json:"targets_total"`
	Targets        []pastTarget   `json:"targets" about:"what this host's clients asked, the busiest first; as many as limit"`
	Notes          []string       `json:"notes" about:"what the answer may lack"`
}

type pastFigures struct {
	Exchanges        uint64       `json:"exchanges"`
	Failures         uint64       `json:"failures" about:"a status of 5xx, or no answer; of targets also 4xx"`
	ThroughputRPS    *float64     `json:"throughput_rps"`
	ErrorRatePercent *float64     `json:"error_rate_percent" about:"null without exchanges"`
	ResponseTime     responseTime `json:"response_time"`
	InFlightMean     *float64     `json:"in_flight_mean" about:"throughput times mean duration (Little's law)"`
}

type pastService struct {
	Service   string     `json:"service_name"`
	Namespace string     `json:"service_namespace,omitempty"`
	Endpoints int        `json:"endpoints"`
	Level     *levelJSON `json:"level" about:"the worst of its endpoints; null where none had enough requests"`
	pastFigures
}

type pastEndpoint struct {
	Service   string `json:"service_name"`
	Namespace string `json:"service_namespace,omitempty"`
	Method    string `json:"method"`
	Route     string `json:"http_route"`
	pastFigures
	Levels levels `json:"levels" about:"over the whole time; null where there is none, with the reason"`
}

type pastTarget struct {
	Service   string `json:"service_name"`
	Namespace string `json:"service_namespace,omitempty"`
	Method    string `json:"method"`
	Address   string `json:"server_address"`
	Port      uint16 `json:"server_port"`
	pastFigures
}

var (
	pastServerLabels = []string{"service_namespace", "service_name", "http_request_method", "http_route"}
	pastClientLabels = []string{"service_namespace", "service_name", "http_request_method", "server_address", "server_port"}
)

// pastRoute serves what the tables of the dashboard show of a time that is over. It reads what reports read.
func pastRoute(o ReportOptions) Route {
	if o.Now == nil {
		o.Now = time.Now
	}
	return Route{
		Path: "/performance/past", Response: pastJSON{}, Errors: []int{http.StatusUnprocessableEntity},
		Summary: "Services, endpoints and targets over a time of the local history, with totals: as /performance/summary has them of the last minutes.",
		Parameters: []Parameter{
			{Name: "from", Description: "Seconds since 1970 or RFC 3339."},
			{Name: "to", Description: "The same; now without it."},
			{Name: "service", Description: "Of this service_name alone, the totals too; targets are those that it asked."},
			{Name: "limit", Description: "The most rows of each list.", Least: 1, Most: rowsMax, Default: strconv.Itoa(rowsDefault)},
		},
	}.serveJSON(func(values map[string]string) (any, error) {
		p := pastReader{o: &o, service: values["service"]}
		err := p.readTimes(values)
		if err != nil {
			return nil, statusError{http.StatusBadRequest, err}
		}
		if p.limit, err = strconv.Atoi(values["limit"]); err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(context.Background(), answerWait) // who asks for the same shares the answer
		defer cancel()
		answer, err := p.read(ctx)
		if err != nil {
			return nil, analysisError(err, "a shorter range takes less time")
		}
		return answer, nil
	})
}

// pastReader reads one time.
type pastReader struct {
	o              *ReportOptions
	from, to       time.Time
	step           time.Duration
	limit          int
	service        string // "": all
	answer         *pastJSON
	servers, calls []*query.Group
}

func (p *pastReader) readTimes(values map[string]string) error {
	now := p.o.Now()
	form := url.Values{"from": {values["from"]}, "to": {values["to"]}}
	f := parameters{form: form}
	p.to, p.from = f.time("to", now), f.needed("from")
	if f.err != nil {
		return f.err
	}
	if p.to.After(now) {
		p.to = now
	}
	if length := p.to.Sub(p.from); length < pastWindowMin || length > pastWindowMax {
		return fmt.Errorf("a time of %s is not between 30 seconds and 400 days", length.Round(time.Second))
	}
	p.align(pastStep(p.from, p.to, now))
	return nil
}

// pastStep is what the history has of a time: ten seconds for a day, minutes for weeks, then hours. Much of it is read in longer steps.
func pastStep(from, to, now time.Time) time.Duration {
	switch length := to.Sub(from); {
	case length >= 60*time.Hour:
		return max(time.Hour, (length / 1000).Truncate(time.Hour))
	case length >= time.Hour, now.Sub(from) > 86000*time.Second:
		return max(time.Minute, (length / 1000).Truncate(time.Minute))
	}
	return 10 * time.Second
}

// align has both ends at multiples of a step: the beginning before what was asked for, the end after it, unless that is to come.
func (p *pastReader) align(step time.Duration) {
	p.step, p.from = step, p.from.UTC().Truncate(step)
	end := p.to.UTC().Truncate(step)
	if end.Before(p.to) && !end.Add(step).After(p.o.Now()) {
		end = end.Add(step)
	}
	if !end.After(p.from) {
		p.from = end.Add(-step)
	}
	p.to = end
}

func (p *pastReader) read(ctx context.Context) (*pastJSON, error) {
	p.answer = &pastJSON{Notes: []string{}}
	counted, err := p.groups(ctx)
	if errors.Is(err, query.ErrMuchToRead) && p.step < time.Hour && p.to.Sub(p.from) > time.Hour {
		p.align(time.Hour)
		p.note("the range is of whole hours, because there are very many endpoints")
		counted, err = p.groups(ctx)
	}
	if errors.Is(err, query.ErrMuchToRead) {
		return nil, statusError{http.StatusUnprocessableEntity, errors.New("there is too much to read in this range: choose a shorter one")}
	}
	if err != nil {
		return nil, err
	}
	a := p.answer
	a.From, a.To, a.CountedSeconds = p.from, p.to, counted.Seconds()
	a.pastFigures = pastFiguresOf(sumOf(p.servers), counted)
	a.Endpoints, a.EndpointsTotal = rowsOf(p.servers, p.limit, p.endpoint)
	services, worst := p.services()
	a.Services, a.ServicesTotal = rowsOf(services, p.limit, func(g *query.Group) pastService {
		id := [2]string(g.Values[:2])
		return pastService{Namespace: id[0], Service: id[1], Endpoints: worst[id].endpoints, Level: worst[id].level, pastFigures: pastFiguresOf(&g.Period, counted)}
	})
	a.Targets, a.TargetsTotal = rowsOf(p.calls, p.limit, func(g *query.Group) pastTarget {
		port, _ := strconv.ParseUint(g.Values[4], 10, 16) // of our own making; none is 0
		return pastTarget{Namespace: g.Values[0], Service: g.Values[1], Method: g.Values[2], Address: g.Values[3], Port: uint16(port), pastFigures: pastFiguresOf(&g.Period, counted)}
	})
	return a, nil
}

// groups reads both ends of requests; it tells how long the agent counted.
func (p *pastReader) groups(ctx context.Context) (counted time.Duration, err error) {
	for _, read := range []struct {
		family string
		by     []string
		to     *[]*query.Group
	}{{"http_server_request_duration_seconds", pastServerLabels, &p.servers}, {"http_client_request_duration_seconds", pastClientLabels, &p.calls}} {
		q := query.TrafficQuestion{Family: read.family, Start: p.from, End: p.to, Step: p.step, BytesMax: pastBytesMax}
		if p.service != "" {
			q.Labels = map[string]string{"service_name": p.service}
		}
		groups, ticks, warnings, err := p.o.Engine.TrafficBy(ctx, q, read.by)
		if err != nil {
			return 0, err
		}
		for _, w := range warnings {
			p.note(w)
		}
		*read.to = slices.DeleteFunc(groups, func(g *query.Group) bool { return g.Requests == 0 })
		counted = 0
		for _, t := range ticks {
			counted += t
		}
	}
	return counted, nil
}

func (p *pastReader) note(text string) {
	if !slices.Contains(p.answer.Notes, text) {
		p.answer.Notes = append(p.answer.Notes, text)
	}
}

// rowsOf makes rows of groups, the busiest first.
func rowsOf[R any](groups []*query.Group, limit int, row func(*query.Group) R) (rows []R, total int) {
	groups = slices.Clone(groups)
	slices.SortStableFunc(groups, func(a, b *query.Group) int { return cmp.Compare(b.Requests, a.Requests) })
	rows = []R{}
	for _, g := range groups[:min(len(groups), limit)] {
		rows = append(rows, row(g))
	}
	return rows, len(groups)
}

func (p *pastReader) endpoint(g *query.Group) pastEndpoint {
	return pastEndpoint{Namespace: g.Values[0], Service: g.Values[1], Method: g.Values[2], Route: g.Values[3],
		pastFigures: pastFiguresOf(&g.Period, g.Counted), Levels: p.levels(g)}
}

// levels judges an endpoint by what it did over the whole time.
func (p *pastReader) levels(g *query.Group) (l levels) {
	l.ThroughputUnknown = "is not judged over a time that is over"
	if p.o.Judge == nil || g.Requests < pastJudged {
		l.ResponseTimeUnknown = fmt.Sprintf("fewer than %d requests", pastJudged)
		l.ErrorRateUnknown = l.ResponseTimeUnknown
		return l
	}
	key := analytics.Key{Role: wire.RoleServer, Service: g.Values[1], Namespace: g.Values[0], Operation: wire.Operation{Verb: g.Values[2], Name: g.Values[3]}}
	l.ResponseTimeUnknown = "no request has a response time"
	if g.Period.Values.Count() > 0 {
		judged := p.o.Judge(key, analytics.ResponseTime, g.Period.Values.Quantile(.95)/1e6)
		l.ResponseTime, l.ResponseTimeUnknown = levelOf(judged), judged.Why.String()
	}
	judged := p.o.Judge(key, analytics.ErrorRate, 100*float64(g.Failures)/float64(g.Requests))
	l.ErrorRate, l.ErrorRateUnknown = levelOf(judged), judged.Why.String()
	return l
}

// ofService is what endpoints tell of theirs.
type ofService struct {
	endpoints int
	level     *levelJSON
}

// services adds up the endpoints of each, and finds the worst level of them.
func (p *pastReader) services() (all []*query.Group, told map[[2]string]ofService) {
	told, members := map[[2]string]ofService{}, map[[2]string][]*query.Group{}
	var order [][2]string
	for _, g := range p.servers {
		id := [2]string(g.Values[:2])
		if len(members[id]) == 0 {
			order = append(order, id)
		}
		members[id] = append(members[id], g)
		s, l := told[id], p.levels(g)
		s.endpoints++
		for _, level := range []*levelJSON{l.ResponseTime, l.ErrorRate} {
			if level != nil && (s.level == nil || slices.Index(allLevels[:], *s.level) < slices.Index(allLevels[:], *level)) {
				s.level = level
			}
		}
		told[id] = s
	}
	for _, id := range order {
		all = append(all, &query.Group{Values: id[:], Period: *sumOf(members[id])})
	}
	return all, told
}

func sumOf(groups []*query.Group) *query.Period {
	sum := &query.Period{}
	for i, g := range groups {
		if i == 0 {
			sum.Values = g.Period.Values.Clone()
		} else {
			sum.Values.Merge(&g.Period.Values)
		}
		sum.Requests, sum.Failures = sum.Requests+g.Requests, sum.Failures+g.Failures
	}
	return sum
}

func pastFiguresOf(p *query.Period, counted time.Duration) pastFigures {
	f := pastFigures{Exchanges: p.Requests, Failures: p.Failures}
	if counted > 0 {
		f.ThroughputRPS, f.InFlightMean = rounded(float64(p.Requests)/counted.Seconds()), rounded(0)
	}
	if p.Requests > 0 {
		f.ErrorRatePercent = rounded(100 * float64(p.Failures) / float64(p.Requests))
	}
	if n := p.Values.Count(); n > 0 {
		v := &p.Values
		f.ResponseTime = responseTime{P50: rounded(v.Quantile(.5) / 1e6), P95: rounded(v.Quantile(.95) / 1e6), P99: rounded(v.Quantile(.99) / 1e6), Average: rounded(v.Sum() / float64(n) * 1e3)}
		if counted > 0 {
			f.InFlightMean = rounded(v.Sum() / counted.Seconds())
		}
	}
	return f
}
