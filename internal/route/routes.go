package route

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/perfagent/perfagent/internal/spelling"
	"github.com/perfagent/perfagent/internal/wire"
)

const (
	// routesMax bounds a routes file; each route takes a few hundred bytes.
	routesMax = 10_000
	// routeLineMax bounds one line of it.
	routeLineMax = 4 << 10
)

// Routes are the templates of a routes file. They do not change once they are parsed.
//
// A line is "[service=NAME] METHOD /path/{param}": METHOD may be "*" for any, {param} is a whole segment or in the place of a
// key ("Products({id})", see plainSegment), and a last
// segment "*" or "{param...}" stands for the rest of the path, also none. "#" at the beginning of a line or behind white
// space begins a comment. Of several templates that match, the one for the service comes before the general ones, then a
// literal segment before a parameter before the rest, then the named method before "*".
type Routes struct {
	roots map[string]*routeNode // by service; "" for any
	count int
}

// routeNode is a segment of the tree of templates.
type routeNode struct {
	literal map[string]*routeNode
	param   *routeNode
	here    map[string]route // by method: templates that end here
	rest    map[string]route // by method: templates that match whatever follows
}

// route is a template and the line that it was read from.
type route struct {
	template string
	line     int
}

// ParseRoutes reads a routes file. The error names the line.
func ParseRoutes(r io.Reader) (*Routes, error) {
	routes := &Routes{roots: map[string]*routeNode{}}
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, routeLineMax), routeLineMax)
	n := 0
	for lines.Scan() {
		n++
		if err := routes.add(lines.Text(), n); err != nil {
			return nil, fmt.Errorf("routes: line %d: %w", n, err)
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, fmt.Errorf("routes: line %d: longer than %d bytes", n+1, routeLineMax)
	} else if err != nil {
		return nil, fmt.Errorf("routes: reading line %d: %w", n+1, err)
	}
	return routes, nil
}

// Len returns the number of templates.
func (r *Routes) Len() int { return r.count }

// add takes one line.
func (r *Routes) add(line string, n int) error {
	if i := strings.IndexFunc(line, func(c rune) bool { return c < ' ' && c != '\t' && c != '\r' || c == 0x7f }); i >= 0 {
		return fmt.Errorf("control character %q", line[i])
	}
	fields := strings.Fields(line)
	for i, f := range fields {
		if f[0] == '#' {
			fields = fields[:i]
			break
		}
	}
	if len(fields) == 0 {
		return nil
	}
	service := ""
	if name, ok := strings.CutPrefix(fields[0], "service="); ok {
		if name == "" {
			return errors.New("service= without a name")
		}
		service, fields = name, fields[1:]
	}
	if len(fields) != 2 {
		return errors.New("want [service=NAME] METHOD /path")
	}
	if r.count++; r.count > routesMax {
		return fmt.Errorf("more than %d routes", routesMax)
	}
	return r.insert(service, fields[0], fields[1], n)
}

// insert adds a template to the tree.
func (r *Routes) insert(service, method, template string, line int) error {
	if wire.TokenLen([]byte(method)) != len(method) {
		return fmt.Errorf("method %q is not a token", method)
	}
	if !slices.Contains(methodNames, method) && method != "*" {
		return fmt.Errorf("unknown method %q; %s", method, methodMeant(method))
	}
	if template[0] != '/' {
		return fmt.Errorf("path %q does not begin with /", template)
	}
	segments := strings.Split(template[1:], "/")
	for _, segment := range segments {
		if meant := parameterMeant(segment); meant != "" {
			return fmt.Errorf("%q: a parameter is written {name}; did you mean %s?", segment, meant)
		}
	}
	if strings.ContainsAny(template, "?#") {
		return fmt.Errorf("path %q has a query or fragment", template)
	}
	if len(segments) > depthMax {
		return fmt.Errorf("path has more than %d segments", depthMax)
	}
	node := r.roots[service]
	if node == nil {
		node = &routeNode{}
		r.roots[service] = node
	}
	for i, segment := range segments {
		kind, err := segmentKind(segment, i == len(segments)-1)
		if err != nil {
			return err
		}
		if kind == restSegment {
			return put(&node.rest, method, template, line)
		}
		node = node.child(string(plainSegment(nil, []byte(segment))), kind)
	}
	return put(&node.here, method, template, line)
}

// methodNames are the methods of RFC 9110, PATCH, those of WebDAV and what caches, search and event servers have: the registry of
// IANA but for what nobody serves, and PURGE and BAN. Of others "*" takes care.
var methodNames = strings.Fields("GET HEAD POST PUT PATCH DELETE OPTIONS CONNECT TRACE QUERY SEARCH REPORT PURGE BAN NOTIFY SUBSCRIBE UNSUBSCRIBE " +
	"ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT COPY LABEL LINK LOCK MERGE MKACTIVITY MKCALENDAR MKCOL MKREDIRECTREF MKWORKSPACE MOVE ORDERPATCH " +
	"PROPFIND PROPPATCH REBIND UNBIND UNCHECKOUT UNLINK UNLOCK UPDATE UPDATEREDIRECTREF VERSION-CONTROL M-SEARCH")

// methodMeant says what an unknown method was probably meant to be.
func methodMeant(method string) string {
	upper := strings.ToUpper(method)
	if upper == "ANY" || upper == "ALL" {
		return "did you mean *?"
	}
	if meant := spelling.Nearest(upper, slices.Values(methodNames), min(len(method)/3, 2)); meant != "" {
		return "did you mean " + meant + "?"
	}
	return "* stands for any"
}

// parameterMeant returns how a segment that is a parameter in the templates of other programs is written here, or "": :id, <id>,
// <int:id>, [id], [...rest], *rest, **, {*rest}, {id:[0-9]+}, {id?}, (?P<id>…), ${id}.
func parameterMeant(s string) string {
	name := s
	for _, begin := range []string{"(?P<", "(?<", "${", "%{", "{{", "{*", "[...", "[[...", "*", ":", "<", "[", "{"} {
		if rest, ok := strings.CutPrefix(s, begin); ok {
			name = rest
			break
		}
	}
	if name == s || s == "*" {
		if strings.ContainsAny(s, `\^|`) || strings.Contains(s, "(.") || strings.Contains(s, "([") {
			return "{name}" // a regular expression
		}
		return ""
	}
	if s[0] == '<' { // a converter stands in front: <int:id>
		name = name[strings.LastIndexByte(name, ':')+1:]
	}
	end := 0
	for end < len(name) && (wire.IsLetter(name[end]) || wire.IsDigit(name[end]) || name[end] == '_' || name[end] == '-') {
		end++
	}
	rest := s[0] == '*' || strings.HasPrefix(s, "{*") || strings.Contains(s, "...")
	switch {
	case s == "**":
		return "*"
	case s[0] == '{' && (name[end:] == "}" || name[end:] == "...}" || end == 0) && name == s[1:]: // as it is written here, or plainly wrong
		return ""
	case end == 0:
		return "{name}"
	case rest:
		return "{" + name[:end] + "...}"
	}
	return "{" + name[:end] + "}"
}

// put adds a template to a node's table.
func put(table *map[string]route, method, template string, line int) error {
	if *table == nil {
		*table = map[string]route{}
	}
	if old, ok := (*table)[method]; ok {
		return fmt.Errorf("%s %q matches the same as %q in line %d", method, template, old.template, old.line)
	}
	(*table)[method] = route{template, line}
	return nil
}

// child returns the node of a segment, made where missing.
func (n *routeNode) child(segment string, kind segmentType) *routeNode {
	if kind == paramSegment {
		if n.param == nil {
			n.param = &routeNode{}
		}
		return n.param
	}
	c := n.literal[segment]
	if c == nil {
		if n.literal == nil {
			n.literal = map[string]*routeNode{}
		}
		c = &routeNode{}
		n.literal[segment] = c
	}
	return c
}

// segmentType is what a segment of a template matches.
type segmentType uint8

const (
	literalSegment segmentType = iota
	paramSegment
	restSegment
)

// segmentKind reads a segment of a template.
func segmentKind(s string, last bool) (segmentType, error) {
	if s == "*" || strings.HasPrefix(s, "{") && strings.HasSuffix(s, "...}") {
		if !last {
			return 0, fmt.Errorf("%q is not the last segment", s)
		}
		return restSegment, nil
	}
	if plain := plainSegment(nil, []byte(s)); !strings.ContainsAny(s, "{}*") || bytes.HasSuffix(plain, []byte("})")) && keyedName(plain) > 0 {
		return literalSegment, nil
	}
	if len(s) < 3 || s[0] != '{' || s[len(s)-1] != '}' || strings.ContainsAny(s[1:len(s)-1], "{}*") {
		return 0, fmt.Errorf("%q: a parameter is a whole segment, as in {id}", s)
	}
	return paramSegment, nil
}

// match returns the template for a path that begins with a slash, or "".
func (r *Routes) match(service, method string, path []byte) string {
	if service != "" {
		if root := r.roots[service]; root != nil {
			if t := root.match(method, path[1:], 0); t != "" {
				return t
			}
		}
	}
	if root := r.roots[""]; root != nil {
		return root.match(method, path[1:], 0)
	}
	return ""
}

// match looks below n for what is left of a path. The search visits no node twice, so it is bounded by the number of
// templates, and by two nodes a segment.
func (n *routeNode) match(method string, path []byte, depth int) string {
	if depth > depthMax {
		return ""
	}
	segment, rest, more := path, []byte(nil), false
	if i := bytes.IndexByte(path, '/'); i >= 0 {
		segment, rest, more = path[:i], path[i+1:], true
	}
	var buf [segmentMax]byte
	for _, c := range [...]*routeNode{n.literal[string(plainSegment(buf[:], segment))], n.param} {
		switch {
		case c == nil || c == n.param && len(segment) == 0:
		case more:
			if t := c.match(method, rest, depth+1); t != "" {
				return t
			}
		default:
			if t := template(c.here, method); t != "" {
				return t
			}
			if t := template(c.rest, method); t != "" { // "/files/*" matches "/files" too
				return t
			}
		}
	}
	return template(n.rest, method)
}

// template returns the table's entry for a method, or the one for any.
func template(table map[string]route, method string) string {
	if t, ok := table[method]; ok {
		return t.template
	}
	return table["*"].template
}
