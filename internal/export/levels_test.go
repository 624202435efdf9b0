package export

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"github.com/perfagent/perfagent/internal/analytics"
	perfhttp "github.com/perfagent/perfagent/internal/http"
	"github.com/perfagent/perfagent/internal/wire"
)

// leveledEngine has three endpoints whose levels are known, after ten minutes.
func leveledEngine(c *clock) *analytics.Engine {
	e := analytics.NewEngine(analytics.Options{Now: c.now})
	load := func(n int, service, route string, ms int64, status uint16) {
		ex := exchange()
		ex.Service, ex.Name, ex.Outcome = service, route, perfhttp.Answered(ex.Role, status)
		ex.Read, ex.Responded, ex.Finished = ex.Arrived, ex.Arrived+ms*1_000_000, ex.Arrived+ms*1_000_000
		for range n {
			e.Add(ex)
		}
	}
	for range 60 {
		load(90, "shop", "/items/{id}", 10, 200)
		load(10, "shop", "/items/{id}", 400, 200)
		load(40, "shop", "/pay", 1500, 200)
		load(10, "shop", "/pay", 1500, 504)
		load(200, "stock", "/", 2, 200)
		c.advance(10 * time.Second)
		e.Tick()
	}
	return e
}

// Levels are streamed as a registry would gather them, and in the text formats as numbers.
func TestLevelMetrics(t *testing.T) {
	e := leveledEngine(newClock())
	registry := prometheus.NewRegistry()
	registry.MustRegister(NewCollector(collectorOptions(e)))
	gathered, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	streamed := decode(t, scrape(t, metricsOf(t, e, true), protoAccept))[levelName]
	if len(streamed.GetMetric()) != 6 { // response times and errors: throughput has no limits
		t.Fatalf("%d levels", len(streamed.GetMetric()))
	}
	for _, want := range gathered {
		if want.GetName() != levelName {
			continue
		}
		byLabels := map[string]*dto.Metric{}
		for _, m := range want.Metric {
			byLabels[fmt.Sprint(m.Label)] = m
		}
		for _, m := range streamed.Metric {
			if !proto.Equal(m, byLabels[fmt.Sprint(m.Label)]) {
				t.Errorf("%v is gathered as %v", m, byLabels[fmt.Sprint(m.Label)])
			}
		}
	}
	for accept, want := range map[string]string{
		"": "# TYPE perfagent_endpoint_level gauge\n" +
			`perfagent_endpoint_level{aspect="response_time",http_request_method="GET",http_route="/items/{id}",service_name="shop"} 2` + "\n",
		"application/openmetrics-text;version=1.0.0": `perfagent_endpoint_level{aspect="error_rate",http_request_method="GET",http_route="/pay",service_name="shop"} 4.0` + "\n",
	} {
		if body := scrape(t, metricsOf(t, e, true), accept).Body.String(); !strings.Contains(body, want) {
			t.Errorf("%q: no %q in\n%s", accept, want, body)
		}
	}
}

// An endpoint that is no HTTP has no series under HTTP's names and labels, in any format, and no HTTP route where it is shown.
func TestOtherConventions(t *testing.T) {
	c := newClock()
	e := analytics.NewEngine(analytics.Options{Now: c.now})
	ex := exchange()
	ex.Service, ex.Protocol, ex.Convention, ex.Path = "store", "redis", wire.ConventionDatabase, nil
	for range 60 {
		for range 50 {
			e.Add(ex)
		}
		c.advance(10 * time.Second)
		e.Tick()
	}
	e.SetActive(map[string]int64{"shop": 2})
	for _, accept := range []string{"", protoAccept, "application/openmetrics-text;version=1.0.0"} {
		if body := scrape(t, metricsOf(t, e, true), accept).Body.String(); strings.Contains(body, "store") || !strings.Contains(body, "redis") {
			t.Errorf("%q:\n%s", accept, body)
		}
	}
	if o := NewObject(ex, false); o.Route != "" || o.Protocol != "redis" {
		t.Errorf("%+v", o)
	}
}
