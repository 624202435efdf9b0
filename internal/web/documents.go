package web

import (
	"time"
)

// Document is a part of what /performance/summary answers, for who publishes it elsewhere.
type Document struct {
	// Name is summary; service and its name; or endpoint, service, method and route. A service's name has its namespace in front, and a
	// slash, where there is one.
	Name []string
	Body any
}

// Documents returns the summary as /performance/summary answers it without parameters, and each service and endpoint by itself, of each
// kind the busiest, up to a limit.
func (o PerformanceOptions) Documents(limit int) ([]Document, error) {
	length, err := time.ParseDuration(windowParameter().Default)
	if err != nil {
		return nil, err
	}
	w, err := o.Engine.Window(length)
	if err != nil {
		return nil, err
	}
	all := []Document{{[]string{"summary"}, o.summary(w, "throughput", rowsDefault, "")}}
	for _, s := range o.servicesOf(w, o.Engine.Active(), limit, "") {
		all = append(all, Document{[]string{"service", qualified(s.Namespace, s.Service)}, s})
	}
	for _, e := range o.endpointsOf(w, "throughput", limit, "") {
		all = append(all, Document{[]string{"endpoint", qualified(e.Namespace, e.Service), e.Method, e.Route}, e})
	}
	return all, nil
}

func qualified(namespace, service string) string {
	if namespace == "" {
		return service
	}
	return namespace + "/" + service
}
