package finding

import (
	"testing"
	"time"

	"github.com/perfagent/perfagent/internal/wire/wiretest"
)

// An exchange belongs to the open finding of its endpoint or target, else to that of its service, if it ended since that began; of a service
// with a list of endpoints, to these.
func TestIndexer(t *testing.T) {
	server, client := wiretest.Exchange(), wiretest.ClientExchange()
	ended := server.Time.Add(time.Duration(server.Duration()))
	end := ended.Add(-time.Minute)
	endpoint := exchangeSubject(server)
	target := exchangeSubject(client)
	other := endpoint
	other.Route = "/other"
	whole := Subject{Role: "server", Service: endpoint.Service, Namespace: endpoint.Namespace}
	made := func(id string, u Subject, start time.Time, parts ...Subject) *Finding {
		f := &Finding{ID: id, Measure: Measure{ResponseTime, u}, Start: start}
		for _, p := range parts {
			f.Parts = append(f.Parts, Part{Measure: Measure{ResponseTime, p}})
		}
		return f
	}
	over := made("over", endpoint, ended.Add(-time.Hour))
	over.End = &end
	for name, c := range map[string]struct {
		all            []*Finding
		server, client string
	}{
		"none":                {nil, "", ""},
		"over":                {[]*Finding{over}, "", ""},
		"another":             {[]*Finding{made("f", other, end)}, "", ""},
		"endpoint":            {[]*Finding{made("f", endpoint, end)}, "f", ""},
		"after it":            {[]*Finding{made("f", endpoint, ended.Add(time.Second))}, "", ""},
		"target":              {[]*Finding{made("f", target, end)}, "", "f"},
		"service":             {[]*Finding{made("f", whole, end)}, "f", ""},
		"both":                {[]*Finding{made("f", whole, end), made("g", endpoint, end)}, "g", ""},
		"service's endpoints": {[]*Finding{made("f", whole, end, endpoint, other)}, "f", ""},
		"other endpoints":     {[]*Finding{made("f", whole, end, other)}, "", ""},
		"the host":            {[]*Finding{made("f", Subject{}, end)}, "", ""},
	} {
		x := NewIndexer(func() []*Finding { return c.all })
		for range 2 { // the second time it is remembered
			if s, k := x.Of(server), x.Of(client); s != c.server || k != c.client {
				t.Errorf("%s: server %q, client %q", name, s, k)
			}
		}
	}
}

// BenchmarkIndexer is what an exchange that is shown costs without findings, and with one of its service.
func BenchmarkIndexer(b *testing.B) {
	ex := wiretest.Exchange()
	u := exchangeSubject(ex)
	for name, all := range map[string][]*Finding{"none": nil, "one": {{ID: "f", Measure: Measure{ResponseTime, u}}}} {
		b.Run(name, func(b *testing.B) {
			of := NewIndexer(func() []*Finding { return all }).Of
			b.ReportAllocs()
			for b.Loop() {
				of(ex)
			}
		})
	}
}
