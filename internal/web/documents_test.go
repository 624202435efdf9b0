package web

import (
	"encoding/json"
	"strings"
	"testing"
)

// What is published is what the summary lists: the whole, and each of its services and endpoints under a name of its own.
func TestDocuments(t *testing.T) {
	c := newClock()
	o := performanceOf(shopEngine(c), c)
	all, err := o.Documents(100)
	if err != nil {
		t.Fatal(err)
	}
	whole, ok := all[0].Body.(*summary)
	if !ok || len(all) != 1+len(whole.Services)+len(whole.Endpoints) || len(whole.Endpoints) == 0 {
		t.Fatalf("%d documents of %+v", len(all), whole)
	}
	seen := map[string]bool{}
	for _, d := range all {
		name := strings.Join(d.Name, ":")
		if body, err := json.Marshal(d.Body); err != nil || len(body) < 10 || seen[name] {
			t.Errorf("%s: %s, %v", name, body, err)
		}
		seen[name] = true
	}
	if e := whole.Endpoints[0]; !seen["endpoint:"+qualified(e.Namespace, e.Service)+":"+e.Method+":"+e.Route] {
		t.Errorf("%v", seen)
	}
}
