package web

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// Other methods are answered with a problem document.
func TestMetricsRoute(t *testing.T) {
	route := metricsRoute(metricsOf(t, filledEngine(newClock())))
	mux := http.NewServeMux()
	route.register(mux)
	ask := func(method string, want int) {
		t.Helper()
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(method, "/metrics", nil))
		if w.Code != want || want >= 400 && w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %v", method, w.Code, w.Header())
		}
	}
	ask(http.MethodGet, http.StatusOK)
	ask(http.MethodHead, http.StatusOK)
	ask(http.MethodPost, http.StatusMethodNotAllowed)
}
