package web

import (
	"net/http"

	"github.com/perfagent/perfagent/internal/export"
)

// metricsHandler serves scrapes.
type metricsHandler struct {
	metrics *export.Metrics
	places  places
}

func metricsRoute(m *export.Metrics) Route {
	return Route{
		Path: "/metrics", Summary: "All metrics, for Prometheus: text, OpenMetrics or protobuf.", MediaType: "text/plain",
		Errors: []int{http.StatusInternalServerError, http.StatusServiceUnavailable}, Handler: &metricsHandler{metrics: m},
	}
}

// ServeHTTP implements http.Handler.
func (h *metricsHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.places.serve(w, r, func(w http.ResponseWriter) {
		if err := h.metrics.Scrape(w, r); err != nil {
			problem(w, http.StatusInternalServerError, err.Error())
		}
	})
}
