package host

import (
	"fmt"
	"path"
	"strings"
)

// Glob matches paths of executables. `*` and `?` do not cross a slash, `[a-z]` is a class, and a component `**` stands
// for any number of components: /opt/**/bin/* matches /opt/bin/a and /opt/x/y/bin/a. A pattern without a slash is
// compared with the last component: nginx matches /usr/sbin/nginx.
type Glob struct{ components []string }

// NewGlob compiles a pattern. It fails on a class that is not closed and on an empty pattern.
func NewGlob(pattern string) (Glob, error) {
	if pattern == "" {
		return Glob{}, fmt.Errorf("glob %q: empty", pattern)
	}
	if !strings.Contains(pattern, "/") {
		pattern = "/**/" + pattern
	}
	components := strings.Split(path.Clean("/" + pattern)[1:], "/")
	for _, component := range components {
		if _, err := path.Match(component, ""); err != nil {
			return Glob{}, fmt.Errorf("glob %q: %w", pattern, err)
		}
	}
	return Glob{components}, nil
}

// Match tells whether the whole of name matches; the empty name never does.
func (g Glob) Match(name string) bool {
	if name == "" || len(g.components) == 0 {
		return false
	}
	return matchComponents(g.components, strings.Split(strings.TrimPrefix(name, "/"), "/"))
}

// matchComponents keeps one place to return to, the last `**`, so that its cost stays bounded by the product of the
// lengths whatever the pattern is.
func matchComponents(pattern, name []string) bool {
	p, n, starP, starN := 0, 0, -1, 0
	for n < len(name) {
		if p < len(pattern) && pattern[p] == "**" {
			starP, starN = p, n
			p++
			continue
		}
		if p < len(pattern) {
			if ok, _ := path.Match(pattern[p], name[n]); ok {
				p, n = p+1, n+1
				continue
			}
		}
		if starP < 0 {
			return false
		}
		starN++
		p, n = starP+1, starN
	}
	for p < len(pattern) && pattern[p] == "**" {
		p++
	}
	return p == len(pattern)
}
