package alert

import (
	"time"

	"github.com/prometheus/prometheus/model/rulefmt"
)

// anomalies has the rule of findings. It is a warning, as nobody has said what is too much: limits and objectives do that. What is grave is told by
// itself, not what is merely unusual.
func anomalies() []rulefmt.Rule {
	return []rulefmt.Rule{newAlert("Anomaly", severityWarning, time.Minute,
		"{{ $labels.metric }} of {{ if $labels.http_route }}{{ $labels.http_request_method }} {{ $labels.http_route }} of {{ end }}"+
			"{{ with $labels.service_name }}{{ . }}{{ else }}{{ with $labels.device }}{{ . }}{{ else }}the host{{ end }}{{ end }} is far from what is usual",
		"The detector of anomalies has an incident of the severity error or critical: an effect that requests suffer from, and that chance hardly explains. This is where it probably comes from.",
		"/troubleshoot/performance says since when, how large it is, what it probably comes from, and what else suffers.",
		`max by (service_namespace, service_name, http_request_method, http_route, server_address, server_port, device, metric) (perfagent_finding_active{severity=~"error|critical"}) > 0`)}
}
