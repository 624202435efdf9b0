package web

import (
	"net/http"

	"github.com/perfagent/perfagent/internal/export"
)

func metricsRoute(m *export.Metrics) Route {
	answers := newAnswers()
	return Route{
		Path: "/metrics", Summary: "All metrics, for Prometheus: text, OpenMetrics or protobuf.", MediaType: "text/plain",
		Errors: []int{http.StatusInternalServerError, http.StatusServiceUnavailable},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			answers.serve(w, r, export.ScrapeFormat(r.Header), func(w http.ResponseWriter) {
				// Compressed also for who does not want that: it is a thirtieth of the memory.
				wanted := http.Request{Method: http.MethodGet, Header: http.Header{"Accept": r.Header["Accept"], "Accept-Encoding": {"gzip"}}}
				if err := m.Scrape(w, &wanted); err != nil {
					problem(w, http.StatusInternalServerError, err.Error())
				}
			})
		}),
	}
}
