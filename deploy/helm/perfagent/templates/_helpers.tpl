{{- define "perfagent.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "perfagent.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "perfagent.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "perfagent.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "perfagent.selector" -}}
app.kubernetes.io/name: {{ include "perfagent.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "perfagent.labels" -}}
{{ include "perfagent.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: agent
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "perfagent.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "perfagent.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "perfagent.image" -}}
{{- $name := .Values.image.repository -}}
{{- with .Values.image.registry }}{{ $name = printf "%s/%s" . $name }}{{ end -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $name .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* "true" or nothing, for if. */}}
{{- define "perfagent.hasPassword" -}}
{{- if has .Values.web.protection (list "password" "both") }}true{{ end -}}
{{- end -}}
{{- define "perfagent.hasTLS" -}}
{{- if has .Values.web.protection (list "tls" "both") }}true{{ end -}}
{{- end -}}

{{- define "perfagent.webSecret" -}}
{{- default (printf "%s-web" (include "perfagent.fullname" .)) .Values.web.auth.existingSecret -}}
{{- end -}}

{{/* What no values schema can say. */}}
{{- define "perfagent.validate" -}}
{{- if hasKey .Values.config "web" -}}
{{- fail "config.web is the chart's own: use the values below web" -}}
{{- end -}}
{{- if and (include "perfagent.hasTLS" .) (not .Values.web.tls.existingSecret) -}}
{{- fail "web.tls.existingSecret is needed where web.protection is tls or both" -}}
{{- end -}}
{{- if and (or .Values.serviceMonitor.enabled .Values.podMonitor.enabled) (eq .Values.web.protection "loopback") -}}
{{- fail "Prometheus cannot scrape what listens on loopback: choose another web.protection" -}}
{{- end -}}
{{- if and .Values.serviceMonitor.enabled .Values.podMonitor.enabled -}}
{{- fail "serviceMonitor and podMonitor together would scrape everything twice: enable one" -}}
{{- end -}}
{{- if and .Values.serviceMonitor.enabled (not .Values.service.create) -}}
{{- fail "serviceMonitor needs service.create" -}}
{{- end -}}
{{- if eq (int .Values.web.port) (int .Values.web.healthPort) -}}
{{- fail "web.port and web.healthPort must differ" -}}
{{- end -}}
{{- end -}}

{{/* One endpoint of a ServiceMonitor or PodMonitor; monitor is the values of either. */}}
{{- define "perfagent.endpoint" -}}
{{- $web := .root.Values.web -}}
port: web
path: /metrics
interval: {{ .monitor.interval }}
{{- with .monitor.scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
{{- if include "perfagent.hasPassword" .root }}
basicAuth:
  username: {name: {{ include "perfagent.webSecret" .root }}, key: username}
  password: {name: {{ include "perfagent.webSecret" .root }}, key: password}
{{- end }}
{{- if include "perfagent.hasTLS" .root }}
scheme: https
tlsConfig:
  ca: {secret: {name: {{ $web.tls.existingSecret }}, key: ca.crt}}
  {{- with $web.tls.serverName }}
  serverName: {{ . | quote }}
  {{- end }}
  {{- if $web.tls.clientAuth }}
  cert: {secret: {name: {{ $web.tls.existingSecret }}, key: tls.crt}}
  keySecret: {name: {{ $web.tls.existingSecret }}, key: tls.key}
  {{- end }}
{{- end }}
relabelings:
- sourceLabels: [__meta_kubernetes_pod_node_name]
  targetLabel: node
{{- with .monitor.relabelings }}
{{ toYaml . }}
{{- end }}
{{- with .monitor.metricRelabelings }}
metricRelabelings:
{{ toYaml . }}
{{- end }}
{{- end -}}
