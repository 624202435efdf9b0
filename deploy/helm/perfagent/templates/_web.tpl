{{/* The part of web.yml about TLS; paths are those of the certificate's mount. */}}
{{- define "perfagent.tlsServerConfig" -}}
tls_server_config:
  cert_file: /etc/perfagent/tls/tls.crt
  key_file: /etc/perfagent/tls/tls.key
  {{- if .Values.web.tls.clientAuth }}
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: /etc/perfagent/tls/ca.crt
  {{- end }}
{{- end -}}

{{/* The agent's configuration file. Everybody may write to an emptyDir, which the agent refuses of its history: it makes a directory in it. */}}
{{- define "perfagent.config" -}}
{{- $storage := dict "retention" .Values.storage.retention "max-bytes" .Values.storage.maxBytes -}}
{{- $_ := set $storage "path" (get (dict "memory" "" "hostPath" "/var/lib/perfagent" "emptyDir" "/var/lib/perfagent/history") .Values.storage.type) -}}
{{- $own := dict "storage" $storage "log" (dict "level" .Values.log.level "format" .Values.log.format) "limits" (dict "memory" .Values.limits.memory) -}}
{{- toYaml (mergeOverwrite $own (deepCopy .Values.config)) -}}
{{- end -}}
