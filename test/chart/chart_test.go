package chart

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"golang.org/x/crypto/bcrypt"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("chart.update", false, "write the rendered manifests instead of comparing them")

func newReader(text string) *bufio.Reader { return bufio.NewReader(strings.NewReader(text)) }

var comment = regexp.MustCompile(`(?m)^\s*#.*$|^---$`)

func withoutComments(document []byte) []byte { return comment.ReplaceAll(document, nil) }

// helm lint finds nothing to complain of.
func TestLint(t *testing.T) {
	for _, message := range lint.All(chartDir, nil, namespace, true).Messages {
		if message.Severity > support.InfoSev {
			t.Error(message)
		}
	}
}

// dimensions are values that are independent of each other; each line of one is tried with each line of the others.
var dimensions = [][]string{
	{"{}", "web: {protection: password, auth: {existingSecret: mine}}", "web: {protection: tls, tls: {existingSecret: cert}}",
		"web: {protection: both, tls: {existingSecret: cert, clientAuth: true, serverName: agent.example}}", "web: {protection: none, enableLifecycle: true}", "web: {protection: loopback, port: 1234}"},
	{"{}", "storage: {type: emptyDir}", "storage: {type: memory, retention: 12h}"},
	{"{}", "privileged: true", "{capabilities: [BPF, PERFMON, SYS_PTRACE], seccompProfile: {}, appArmorProfile: {type: Unconfined}}"},
	{"{}", "serviceMonitor: {enabled: true, labels: {release: x}, nativeHistograms: true, scrapeTimeout: 10s}", "podMonitor: {enabled: true, namespace: monitoring, metricRelabelings: [{action: drop, regex: go_.*, sourceLabels: [__name__]}]}"},
	{"{}", "networkPolicy: {from: [{namespaceSelector: {matchLabels: {a: b}}}], egress: [{ports: [{port: 4318}]}]}", "{networkPolicy: {enabled: false}, hostNetwork: true, service: {create: false}, prometheusRule: {enabled: true}}"},
}

// Every combination of the chart's larger choices renders, decodes strictly, and is of parts that fit together; what cannot work is
// refused.
func TestCombinations(t *testing.T) {
	c := loadChart(t)
	rendered, refused := 0, 0
	for combination := range combinations(len(dimensions)) {
		given := map[string]any{"web": map[string]any{"auth": map[string]any{"existingSecret": ""}}}
		for i, choice := range combination {
			merge(given, values(t, dimensions[i][choice]))
		}
		// A bcrypt hash takes a twentieth of a second: of the many with a password of the chart's, a few have one.
		made := combination[0] == 0 || combination[0] == 3
		in := cluster(nil)
		if made && slices.Max(combination[1:]) > 0 {
			in = cluster{"perfagent-web": kept("prometheus", "known", "$2y$04$hash")}
		}
		if impossible(given) {
			if _, err := render(c, "", given, in); err == nil {
				t.Errorf("accepted:\n%s", describe(given))
			}
			refused++
			continue
		}
		fit(t, given, objects(t, c, given, in))
		if rendered++; t.Failed() {
			t.Fatalf("with\n%s", describe(given))
		}
	}
	if rendered < 350 || refused < 50 {
		t.Errorf("%d were rendered and %d refused", rendered, refused)
	}
}

// impossible tells whether Prometheus could not scrape as it is asked to.
func impossible(given map[string]any) bool {
	_, byService := given["serviceMonitor"]
	_, byPod := given["podMonitor"]
	_, noService := given["service"]
	loopback := given["web"].(map[string]any)["protection"] == "loopback"
	return loopback && (byService || byPod) || byService && noService
}

func combinations(n int) func(func([]int) bool) {
	return func(yield func([]int) bool) {
		at := make([]int, n)
		for {
			if !yield(at) {
				return
			}
			i := 0
			for ; i < n; i++ {
				if at[i]++; at[i] < len(dimensions[i]) {
					break
				}
				at[i] = 0
			}
			if i == n {
				return
			}
		}
	}
}

func merge(into, from map[string]any) {
	for key, value := range from {
		inner, ok := value.(map[string]any)
		if outer, both := into[key].(map[string]any); ok && both {
			merge(outer, inner)
			continue
		}
		into[key] = value
	}
}

// kept is a Secret as a cluster keeps it.
func kept(username, password, hash string) *unstructured.Unstructured {
	encoded := map[string]any{}
	for key, value := range map[string]string{"username": username, "password": password, "hash": hash} {
		encoded[key] = base64Of(value)
	}
	return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Secret", "data": encoded}}
}

// fit checks that the parts of one rendering fit together.
func fit(t *testing.T, given map[string]any, all []object) {
	t.Helper()
	set := find[*apps.DaemonSet](t, all)
	if set == nil {
		t.Fatal("no DaemonSet")
	}
	pod := &set.Spec.Template
	selector := labels.SelectorFromSet(set.Spec.Selector.MatchLabels)
	if !selector.Matches(labels.Set(pod.Labels)) {
		t.Errorf("%s does not select %v", selector, pod.Labels)
	}
	fitVolumes(t, pod.Spec, all)
	fitSecurity(t, given, pod.Spec)
	fitListening(t, pod.Spec.Containers[0])
	fitScrape(t, pod, all)
	for _, o := range all {
		if _, monitor := o.(*monitoring.PodMonitor); !monitor && o.GetNamespace() != namespace {
			t.Errorf("%T is in namespace %q", o, o.GetNamespace())
		}
		if o.GetLabels()["app.kubernetes.io/instance"] != "perfagent" {
			t.Errorf("%T has labels %v", o, o.GetLabels())
		}
	}
}

// fitVolumes checks that each mount has its volume, each volume a mount, and that what volumes name is there, with its keys.
func fitVolumes(t *testing.T, spec core.PodSpec, all []object) {
	t.Helper()
	mounted := map[string]bool{}
	for _, m := range spec.Containers[0].VolumeMounts {
		mounted[m.Name] = true
		if !slices.ContainsFunc(spec.Volumes, func(v core.Volume) bool { return v.Name == m.Name }) {
			t.Errorf("%s mounts %s, which is no volume", m.MountPath, m.Name)
		}
		if m.SubPath != "" {
			if _, ok := find[*core.ConfigMap](t, all).Data[m.SubPath]; !ok {
				t.Errorf("the ConfigMap has no %s", m.SubPath)
			}
		}
	}
	secret := find[*core.Secret](t, all)
	for _, v := range spec.Volumes {
		if !mounted[v.Name] {
			t.Errorf("volume %s is mounted nowhere", v.Name)
		}
		if v.Secret != nil && v.Secret.SecretName != "mine" && v.Secret.SecretName != "cert" && (secret == nil || secret.Name != v.Secret.SecretName) {
			t.Errorf("nothing makes Secret %s", v.Secret.SecretName)
		}
		if v.HostPath != nil && v.HostPath.Path != "/var/lib/perfagent" && v.HostPath.Path != "/sys/fs/cgroup" {
			t.Errorf("%s of the host is mounted", v.HostPath.Path)
		}
	}
}

// fitSecurity checks that the pod may do what it must, and no more.
func fitSecurity(t *testing.T, given map[string]any, spec core.PodSpec) {
	t.Helper()
	c := spec.Containers[0].SecurityContext
	if !spec.HostPID || !*c.ReadOnlyRootFilesystem || *c.RunAsUser != 0 || *spec.AutomountServiceAccountToken {
		t.Errorf("host's processes %v, read-only root %v, user %d", spec.HostPID, *c.ReadOnlyRootFilesystem, *c.RunAsUser)
	}
	if given["privileged"] == true {
		if !*c.Privileged || c.Capabilities != nil || c.AllowPrivilegeEscalation != nil {
			t.Errorf("privileged: %+v", c)
		}
		return
	}
	if *c.Privileged || *c.AllowPrivilegeEscalation || !slices.Equal(c.Capabilities.Drop, []core.Capability{"ALL"}) {
		t.Errorf("not privileged: %+v", c)
	}
	if given["capabilities"] == nil {
		if !slices.Equal(c.Capabilities.Add, []core.Capability{"BPF", "PERFMON", "SYS_PTRACE", "DAC_READ_SEARCH"}) || c.SeccompProfile.Type != "RuntimeDefault" {
			t.Errorf("capabilities %v, seccomp %v", c.Capabilities.Add, c.SeccompProfile)
		}
	}
}

// fitListening checks that the probes reach the agent, and that beyond loopback something protects it, or a flag says that nothing shall.
func fitListening(t *testing.T, c core.Container) {
	t.Helper()
	args := strings.Join(c.Args, " ")
	ports := map[string]int32{}
	for _, p := range c.Ports {
		ports[p.Name] = p.ContainerPort
	}
	for _, p := range []*core.Probe{c.StartupProbe, c.ReadinessProbe, c.LivenessProbe} {
		if at := ports[p.HTTPGet.Port.String()]; !strings.Contains(args, fmt.Sprintf("--web.health-address=:%d", at)) {
			t.Errorf("probe at port %v, agent with %s", p.HTTPGet.Port, args)
		}
	}
	loopback := strings.Contains(args, "--web.listen-address=127.0.0.1:")
	protected := strings.Contains(args, "--web.config.file=") || strings.Contains(args, "--web.allow-unprotected")
	if loopback == protected || !strings.Contains(args, fmt.Sprint(":", ports["web"])) {
		t.Errorf("it listens so that the agent refuses, or nobody is served: %s", args)
	}
	if file := regexp.MustCompile(`--web\.config\.file=(\S+)`).FindStringSubmatch(args); file != nil {
		if !slices.ContainsFunc(c.VolumeMounts, func(m core.VolumeMount) bool { return m.MountPath == file[1] || m.MountPath == filepath.Dir(file[1]) }) {
			t.Errorf("%s is not mounted", file[1])
		}
	}
}

// fitScrape checks that a monitor finds the pods by way of the service, on a port that there is, and with a password that is there.
func fitScrape(t *testing.T, pod *core.PodTemplateSpec, all []object) {
	t.Helper()
	service := find[*core.Service](t, all)
	if service != nil && (!labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(pod.Labels)) || service.Spec.ClusterIP != "None") {
		t.Errorf("the service selects %v", service.Spec.Selector)
	}
	if policy := find[*networking.NetworkPolicy](t, all); policy != nil && !labels.SelectorFromSet(policy.Spec.PodSelector.MatchLabels).Matches(labels.Set(pod.Labels)) {
		t.Errorf("the policy is of %v", policy.Spec.PodSelector)
	}
	password := strings.Contains(strings.Join(pod.Spec.Containers[0].Args, " "), "/web/web.yml")
	if m := find[*monitoring.ServiceMonitor](t, all); m != nil {
		if !labels.SelectorFromSet(m.Spec.Selector.MatchLabels).Matches(labels.Set(service.Labels)) || m.Spec.Endpoints[0].Port != service.Spec.Ports[0].Name {
			t.Errorf("the monitor does not find the service: %+v", m.Spec)
		}
		fitPassword(t, m.Spec.Endpoints[0].BasicAuth, password, all)
	}
	if m := find[*monitoring.PodMonitor](t, all); m != nil {
		if !labels.SelectorFromSet(m.Spec.Selector.MatchLabels).Matches(labels.Set(pod.Labels)) || *m.Spec.PodMetricsEndpoints[0].Port != "web" {
			t.Errorf("the monitor does not find the pods: %+v", m.Spec)
		}
		fitPassword(t, m.Spec.PodMetricsEndpoints[0].BasicAuth, password, all)
	}
}

func fitPassword(t *testing.T, auth *monitoring.BasicAuth, wanted bool, all []object) {
	t.Helper()
	if (auth != nil) != wanted {
		t.Errorf("Prometheus has a password: %v, the agent wants one: %v", auth != nil, wanted)
	}
	if secret := find[*core.Secret](t, all); auth != nil && secret != nil {
		if secret.Name != auth.Password.Name || secret.StringData[auth.Password.Key] == "" || secret.StringData[auth.Username.Key] == "" {
			t.Errorf("Secret %s has no %s", secret.Name, auth.Password.Key)
		}
	}
}

// A value that cannot be right is refused, by the schema or by the chart, with words that say which.
func TestRefused(t *testing.T) {
	c := loadChart(t)
	for text, want := range map[string]string{
		"unknown: 1":                                "unknown",
		"web: {protection: maybe}":                  "protection",
		"web: {protection: tls}":                    "web.tls.existingSecret is needed",
		"web: {port: 9465}":                         "must differ",
		"web: {port: 99999}":                        "port",
		"capabilities: [CAP_BPF]":                   "capabilities",
		"image: {digest: latest}":                   "digest",
		"storage: {type: disk}":                     "type",
		"config: {web: {listen-address: [\":1\"]}}": "config.web is the chart's own",
		"{serviceMonitor: {enabled: true}, podMonitor: {enabled: true}}": "scrape everything twice",
	} {
		if _, err := render(c, "", values(t, text), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// The password of the Secret is the one whose hash the agent gets. An upgrade changes neither; a password that is set is taken over.
func TestPassword(t *testing.T) {
	c := loadChart(t)
	first := find[*core.Secret](t, objects(t, c, nil, nil)).StringData
	var web struct {
		Users map[string]string `json:"basic_auth_users"`
	}
	if err := yaml.Unmarshal([]byte(first["web.yml"]), &web); err != nil {
		t.Fatal(err)
	}
	if err := bcrypt.CompareHashAndPassword([]byte(web.Users[first["username"]]), []byte(first["password"])); err != nil || len(first["password"]) != 32 {
		t.Errorf("%v: %v", err, first)
	}
	if second := find[*core.Secret](t, objects(t, c, nil, nil)).StringData; second["password"] == first["password"] {
		t.Error("two installations have the same password")
	}
	in := cluster{"perfagent-web": kept(first["username"], first["password"], first["hash"])}
	if again := find[*core.Secret](t, objects(t, c, nil, in)).StringData; again["password"] != first["password"] || again["web.yml"] != first["web.yml"] {
		t.Errorf("an upgrade changed %v to %v", first, again)
	}
	set := find[*core.Secret](t, objects(t, c, values(t, "web: {auth: {password: other}}"), in)).StringData
	if set["password"] != "other" || bcrypt.CompareHashAndPassword([]byte(set["hash"]), []byte("other")) != nil {
		t.Errorf("the password that was set is not used: %v", set)
	}
}

// The agent takes the flags and the configuration that the chart gives it. PERFAGENT_BINARY names the agent; without it the test
// builds one.
func TestAgentTakesIt(t *testing.T) {
	c := loadChart(t)
	help, err := exec.Command(agent(t), "run", "--help").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"{}", "{web: {protection: none, enableLifecycle: true, externalURL: \"http://a.example\"}, storage: {type: memory}}",
		"{web: {protection: tls, tls: {existingSecret: cert}}, config: {capture: {port: [8080]}, alerts: {thresholds: {response-time-ms: 500}}, limits: {endpoints: 100}}}"} {
		all := objects(t, c, values(t, text), nil)
		for _, arg := range find[*apps.DaemonSet](t, all).Spec.Template.Spec.Containers[0].Args[1:] {
			name, _, _ := strings.Cut(arg, "=")
			if !bytes.Contains(help, []byte(" "+name+" ")) {
				t.Errorf("the agent has no flag %s", name)
			}
		}
		file := filepath.Join(t.TempDir(), "perfagent.yml")
		if err := os.WriteFile(file, []byte(find[*core.ConfigMap](t, all).Data["perfagent.yml"]), 0o600); err != nil {
			t.Fatal(err)
		}
		// With a bad value behind it, the file is read and the start refused for that value alone.
		cmd := exec.Command(agent(t), "run", "--config.file="+file, "--capture.pid=4194305")
		cmd.Env = []string{} // the agent refuses variables of its name that it does not know, as PERFAGENT_BINARY
		output, err := cmd.CombinedOutput()
		if err == nil || !bytes.Contains(output, []byte("4194305")) || bytes.Contains(output, []byte("perfagent.yml")) {
			t.Errorf("%s: %v: %s", text, err, output)
		}
	}
}

func agent(t *testing.T) string {
	t.Helper()
	if binary := os.Getenv("PERFAGENT_BINARY"); binary != "" {
		return binary
	}
	binary := filepath.Join(os.TempDir(), fmt.Sprintf("perfagent-chart-test-%d", os.Getpid()))
	if _, err := os.Stat(binary); err == nil {
		return binary
	}
	build := exec.Command("go", "build", "-pgo=off", "-o", binary, "./cmd/perfagent")
	build.Dir = filepath.Join("..", "..")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	agentBuilt = binary
	return binary
}

// agentBuilt is removed in the end; "": nothing was built.
var agentBuilt string

func TestMain(m *testing.M) {
	status := m.Run()
	if agentBuilt != "" {
		os.Remove(agentBuilt)
	}
	os.Exit(status)
}

// The rules of the chart are those that deploy/prometheus has, which another test compares with the agent's own.
func TestRules(t *testing.T) {
	own, err := os.ReadFile(filepath.Join(chartDir, "files", "perfagent-alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := os.ReadFile("../../deploy/prometheus/perfagent-alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(own, theirs) {
		t.Error("the chart's rules are others: make generate-rules")
	}
	rule := find[*monitoring.PrometheusRule](t, objects(t, loadChart(t), values(t, "prometheusRule: {enabled: true, labels: {release: x}}"), nil))
	alerts := 0
	for _, group := range rule.Spec.Groups {
		for _, r := range group.Rules {
			if r.Alert != "" && r.Expr.String() != "" {
				alerts++
			}
		}
	}
	if want := bytes.Count(theirs, []byte("- alert: ")); alerts != want || want < 20 {
		t.Errorf("%d alerts in the object, %d in the file", alerts, want)
	}
}

// What the user reads after the installation says how to get at the dashboard, and warns where nothing protects it.
func TestNotes(t *testing.T) {
	c := loadChart(t)
	for text, want := range map[string][]string{
		"{}":                                {"rollout status daemonset/perfagent", "get secret perfagent-web", "port-forward $POD 9464", "Nothing scrapes it yet"},
		"web: {protection: none}":           {"WARNING", "networkPolicy.from names who may"},
		"web: {protection: loopback}":       {"Prometheus cannot scrape it"},
		"privileged: true":                  {"The container is privileged"},
		"{serviceMonitor: {enabled: true}}": {"perfagent check"},
	} {
		files, err := render(c, "", values(t, text), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range want {
			if !strings.Contains(files["NOTES.txt"], part) {
				t.Errorf("%s: no %q in\n%s", text, part, files["NOTES.txt"])
			}
		}
	}
}
