package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/perfagent/perfagent/internal/alert"
	"github.com/perfagent/perfagent/internal/analytics"
	"github.com/perfagent/perfagent/internal/spelling"
)

const (
	// objectivePatience is how long after a start an objective may wait for its first request: a service may be started later, and
	// have a quiet hour.
	objectivePatience = time.Hour
	// objectiveCheck is how often it is looked at whether objectives have any.
	objectiveCheck = 10 * time.Minute
)

// watchObjectives logs, once, of each objective that nothing is counted of: its service or route is probably called otherwise.
func (a *agent) watchObjectives(ctx context.Context) {
	ticker := time.NewTicker(objectiveCheck)
	defer ticker.Stop()
	said := map[string]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, trouble := range a.objectiveTroubles() {
			if !said[trouble] {
				said[trouble] = true
				a.log.Warn(trouble)
			}
		}
	}
}

// objectiveTroubles are the objectives that nothing is counted of, for the agent's health.
func (a *agent) objectiveTroubles() []string {
	m := a.alerts.Load()
	if m == nil || time.Since(a.started) < objectivePatience {
		return nil
	}
	return uncounted(m.Objectives(), a.engine.Snapshot())
}

// uncounted says which objectives nothing is counted of, each once.
func uncounted(objectives []alert.ObjectiveView, s *analytics.Snapshot) (all []string) {
	said := map[string]bool{}
	for i := range objectives {
		o := &objectives[i]
		name := strings.TrimSpace(o.Service + " " + o.Route)
		if !o.Unmatched || said[name] {
			continue
		}
		said[name] = true
		all = append(all, fmt.Sprintf("the objective of %s has no requests: nothing of that service and route is counted%s", name, nearestService(o.Service, s)))
	}
	return all
}

// nearestService names the service that a wrong one was probably meant to be.
func nearestService(wrong string, s *analytics.Snapshot) string {
	services := func(yield func(string) bool) {
		for _, e := range s.Endpoints {
			if !yield(e.Service) {
				return
			}
		}
	}
	for name := range services {
		if name == wrong {
			return ", though other routes of it are: /api/v1/label/http_route/values lists them"
		}
	}
	if nearest := spelling.Nearest(wrong, services, 3); nearest != "" {
		return "; did you mean " + nearest + "?"
	}
	return "; /api/v1/label/service_name/values lists the services"
}
