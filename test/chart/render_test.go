// Package chart renders the Helm chart as helm does, decodes what comes out as the API server would in its strict mode, and checks
// that the parts fit together. It is a module of its own: Helm and Kubernetes' types are nothing that the agent needs.
package chart

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	helmchart "helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"
)

const (
	chartDir  = "../../deploy/helm/perfagent"
	namespace = "perfagent"
)

// object is one of Kubernetes' objects.
type object interface {
	runtime.Object
	meta.Object
}

func loadChart(t *testing.T) *helmchart.Chart {
	t.Helper()
	c, err := loader.LoadDir(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// cluster answers lookup, with the Secrets that are there.
type cluster map[string]*unstructured.Unstructured

type secrets struct {
	dynamic.NamespaceableResourceInterface // nil: the chart asks for nothing else
	cluster                                cluster
}

func (c cluster) GetClientFor(_, kind string) (dynamic.NamespaceableResourceInterface, bool, error) {
	if kind != "Secret" {
		return nil, false, errors.New("the chart looks for more than Secrets: " + kind)
	}
	return secrets{cluster: c}, true, nil
}

func (s secrets) Namespace(string) dynamic.ResourceInterface { return s }

func (s secrets) Get(_ context.Context, name string, _ meta.GetOptions, _ ...string) (*unstructured.Unstructured, error) {
	if found := s.cluster[name]; found != nil {
		return found, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "secrets"}, name)
}

// values are those that a user gives, as the text of a values file.
func values(t *testing.T, text string) map[string]any {
	t.Helper()
	var v map[string]any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

// render returns the templates' texts by name.
func render(c *helmchart.Chart, service string, given map[string]any, in cluster) (map[string]string, error) {
	release := chartutil.ReleaseOptions{Name: "perfagent", Namespace: namespace, IsInstall: true, Revision: 1}
	all, err := chartutil.ToRenderValues(c, given, release, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	if service != "" {
		all["Release"].(map[string]any)["Service"] = service
	}
	files, err := engine.RenderWithClientProvider(c, all, in)
	if err != nil {
		return nil, err
	}
	short := make(map[string]string)
	for name, text := range files {
		short[filepath.Base(name)] = text
	}
	return short, nil
}

var decoder = func() runtime.Decoder {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{apps.AddToScheme, core.AddToScheme, networking.AddToScheme, monitoring.AddToScheme} {
		if err := add(scheme); err != nil {
			panic(err)
		}
	}
	return json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true})
}()

// decode returns the objects of a text, strictly: an unknown field, one that is given twice, and one of another type are errors.
func decode(text string) ([]object, error) {
	var all []object
	for documents := utilyaml.NewYAMLReader(newReader(text)); ; {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		if len(bytes.TrimSpace(withoutComments(document))) == 0 {
			continue
		}
		decoded, _, err := decoder.Decode(document, nil, nil)
		if err != nil {
			return nil, err
		}
		all = append(all, decoded.(object))
	}
}

// objects renders and decodes.
func objects(t *testing.T, c *helmchart.Chart, given map[string]any, in cluster) []object {
	t.Helper()
	files, err := render(c, "", given, in)
	if err != nil {
		t.Fatal(err)
	}
	var all []object
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !strings.HasSuffix(name, ".yaml") {
			continue
		}
		found, err := decode(files[name])
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, files[name])
		}
		all = append(all, found...)
	}
	return all
}

// find returns the one object of a type, nil for none.
func find[T object](t *testing.T, all []object) (found T) {
	t.Helper()
	n := 0
	for _, o := range all {
		if typed, ok := o.(T); ok {
			found, n = typed, n+1
		}
	}
	if n > 1 {
		t.Errorf("%d objects of type %T", n, found)
	}
	return found
}

func describe(v map[string]any) string {
	text, err := yaml.Marshal(v)
	return fmt.Sprint(string(text), err)
}
