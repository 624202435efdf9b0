package chart

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func base64Of(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// namespaceManifest allows what the pods need: Kubernetes' pod security standards have no level between that and everything.
const namespaceManifest = `---
apiVersion: v1
kind: Namespace
metadata:
  name: perfagent
  labels:
    pod-security.kubernetes.io/enforce: privileged # hostPID, hostPath and capabilities; the container is not privileged
`

// order is that in which a person reads them, and in which kubectl creates them.
var order = []string{"serviceaccount.yaml", "secret.yaml", "configmap.yaml", "daemonset.yaml", "service.yaml", "networkpolicy.yaml",
	"servicemonitor.yaml", "podmonitor.yaml", "prometheusrule.yaml"}

var chartLabel = regexp.MustCompile(`(?m)^\s*helm\.sh/chart: .*\n`)

// manifests are the files that are rendered from the chart, with the values they come from.
var manifests = []struct {
	file, values string
	plain        bool // for kubectl: with the namespace, and without a word of Helm
	head         string
}{
	{"../../deploy/kubernetes/perfagent.yaml", "web: {protection: loopback}", true, `# perfagent on every node, without Helm: kubectl apply -f perfagent.yaml
# Nobody can read what it serves but by kubectl port-forward and kubectl exec. For Prometheus: perfagent-prometheus.yaml.
`},
	{"../../deploy/kubernetes/perfagent-prometheus.yaml", "web: {auth: {existingSecret: perfagent-web}}", true, `# perfagent on every node, for a Prometheus that scrapes it, without Helm. It serves with a password, which is yours to make (htpasswd is in
# apache2-utils), before kubectl apply -f perfagent-prometheus.yaml:
#
#   kubectl create namespace perfagent
#   PASSWORD=$(openssl rand -hex 16)
#   printf 'basic_auth_users:\n  %s\n' "$(htpasswd -nbB prometheus "$PASSWORD" | sed 's/:/: /')" > web.yml
#   kubectl -n perfagent create secret generic perfagent-web --from-literal=username=prometheus \
#     --from-literal=password="$PASSWORD" --from-file=web.yml
#
# deploy/kubernetes/prometheus-scrape.yaml is the scrape configuration.
`},
	{chartDir + "/examples/operator/rendered.yaml", "", false, "# What helm template makes of values.yaml beside it.\n"},
	{chartDir + "/examples/tls/rendered.yaml", "", false, "# What helm template makes of values.yaml beside it.\n"},
	{chartDir + "/examples/privileged/rendered.yaml", "", false, "# What helm template makes of values.yaml beside it.\n"},
}

// The plain manifests and the rendered examples are what the chart makes of their values, and decode strictly.
// go test . -args -chart.update writes them anew.
func TestManifests(t *testing.T) {
	c := loadChart(t)
	for _, m := range manifests {
		given := m.values
		if given == "" {
			text, err := os.ReadFile(filepath.Join(filepath.Dir(m.file), "values.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			given = string(text)
		}
		service := ""
		if m.plain {
			service = "kubectl"
		}
		files, err := render(c, service, values(t, given), nil)
		if err != nil {
			t.Fatalf("%s: %v", m.file, err)
		}
		text := m.head
		if m.plain {
			text += namespaceManifest
		}
		for _, name := range order {
			if one := strings.TrimSpace(files[name]); one != "" {
				text += "---\n" + one + "\n"
			}
		}
		if m.plain {
			text = chartLabel.ReplaceAllString(text, "")
		}
		if found, err := decode(text); err != nil || len(found) < 5 {
			t.Errorf("%s: %d objects, %v", m.file, len(found), err)
		}
		if *update {
			if err := os.WriteFile(m.file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if written, err := os.ReadFile(m.file); err != nil || string(written) != text {
			t.Errorf("%s is not what the chart gives: make generate-manifests (%v)", m.file, err)
		}
	}
}
