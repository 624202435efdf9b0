package deploy

import (
	"slices"
	"strings"
	"testing"
)

// keywords of PromQL that are not functions, and aggregations, which may stand before by.
var keywords = strings.Fields("and or unless bool offset by without on ignoring group_left group_right inf nan " +
	"sum min max avg group stddev stdvar count count_values bottomk topk quantile")

// labelLists are keywords that a list of labels follows.
var labelLists = strings.Fields("by without on ignoring group_left group_right")

// references returns the names of the metrics and of the labels in a PromQL expression that promtool has found valid.
func references(expr string) (metrics, labels []string) {
	inBraces, inList, before := false, false, ""
	for len(expr) > 0 {
		switch c := expr[0]; {
		case c == '"' || c == '\'' || c == '`':
			end := 1
			for expr[end] != c {
				if expr[end] == '\\' && c != '`' {
					end++
				}
				end++
			}
			expr = expr[end+1:]
			continue
		case c == '[':
			expr = expr[strings.IndexByte(expr, ']')+1:]
			continue
		case isName(c) && (c < '0' || c > '9'):
			end := 0
			for end < len(expr) && isName(expr[end]) {
				end++
			}
			name := expr[:end]
			expr = expr[end:]
			switch isCall := strings.HasPrefix(strings.TrimLeft(expr, " \n"), "("); {
			case inBraces || inList:
				labels = append(labels, name)
			case slices.Contains(keywords, name), isCall:
			default:
				metrics = append(metrics, name)
			}
			before = name
			continue
		case isName(c): // a number, with its unit or exponent
			for len(expr) > 0 && (isName(expr[0]) || expr[0] == '.') {
				expr = expr[1:]
			}
			continue
		case c == '{' || c == '}':
			inBraces = c == '{'
		case c == '(':
			inList = slices.Contains(labelLists, before)
		case c == ')':
			inList = false
		}
		if c := expr[0]; c != ' ' && c != '\n' {
			before = ""
		}
		expr = expr[1:]
	}
	return metrics, labels
}

func isName(c byte) bool {
	return c == '_' || c == ':' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// Shows that names are found where they stand, and nothing else is taken for one.
func TestReferences(t *testing.T) {
	for expr, want := range map[string][2]string{
		`up`:                                 {"up", ""},
		`rate(a_total{x="up", y!~"(z"}[5m])`: {"a_total", "x y"},
		`sum by (le, job) (rate(a_bucket[1h])) / on (job) group_left (z) 1e3 * b:c:d offset 5m`: {"a_bucket b:c:d", "le job job z"},
		"histogram_quantile(0.99, sum(a))\n or 0 * count(b == 0) > bool 2":                      {"a b", ""},
		`a{b="\"c"} unless (d and e{f=~'g'})`:                                                   {"a d e", "b f"},
	} {
		metrics, labels := references(expr)
		if got := [2]string{strings.Join(metrics, " "), strings.Join(labels, " ")}; got != want {
			t.Errorf("%s: %q, want %q", expr, got, want)
		}
	}
}
