package alert

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	text_template "text/template"
	"text/template/parse"
	"time"
	"unicode"
)

const (
	// templateStepsMax is how often loops and parts of a template are gone through in one expansion: some 5 ms. Alerts are told in two sentences.
	templateStepsMax = 10_000
	// templateBytesMax bounds the text that an expansion makes, also within; of what it writes 2 KiB are kept.
	templateBytesMax = 256 << 10
	// templateTimeout bounds an expansion that asks the history for nothing. One that does may take as long as its group.
	templateTimeout = time.Second
	// patternBytesMax bounds a regular expression of a template: a longer one takes megabytes.
	patternBytesMax = 1 << 10
)

// errOverdrawn says that an expansion went beyond its allowance.
var errOverdrawn = errors.New("the template does too much")

// allowance is what an expansion may still do. Go's templates can be told to end by nothing but a function that fails, so a template is
// rewritten (thrifty) to call one in each round of its loops, and functions that make much of little ask before.
type allowance struct {
	ctx          context.Context
	steps, bytes int
}

func newAllowance(ctx context.Context) *allowance {
	return &allowance{ctx, templateStepsMax, templateBytesMax}
}

// step is called where a part of a template begins that has so many bytes of text.
func (a *allowance) step(bytes int) (string, error) {
	if a.steps--; a.steps < 0 {
		return "", fmt.Errorf("%w: its parts are gone through more than %d times", errOverdrawn, templateStepsMax)
	}
	if a.ctx.Err() != nil {
		return "", fmt.Errorf("%w: it takes too long", errOverdrawn)
	}
	return "", a.spend(bytes)
}

// spend fails where so many bytes are more than are left.
func (a *allowance) spend(bytes int) error {
	if bytes > a.bytes {
		return fmt.Errorf("%w: it makes more than %d KiB of text", errOverdrawn, templateBytesMax>>10)
	}
	a.bytes -= bytes
	return nil
}

// show returns what is about to be written.
func (a *allowance) show(v any) (any, error) { return v, a.spend(sizeOf(v)) }

// sizeOf is how much text a value is, more or less. Maps of args were counted when they were made, so this ends.
func sizeOf(v any) int {
	switch v := v.(type) {
	case nil, bool, int, float64:
		return 8
	case string:
		return len(v)
	case map[string]any:
		size := 0
		for name, value := range v {
			size += len(name) + sizeOf(value)
		}
		return size
	}
	return len(fmt.Sprint(v))
}

// functions take the places of those that make more of their arguments than these are.
func (a *allowance) functions() text_template.FuncMap {
	bounded := func(made func(...any) string) func(...any) (string, error) {
		return func(args ...any) (string, error) {
			size := 0
			for _, arg := range args {
				size += sizeOf(arg)
			}
			if err := a.spend(size); err != nil {
				return "", err
			}
			text := made(args...)
			return text, a.spend(len(text))
		}
	}
	return text_template.FuncMap{
		stepFunction: a.step, showFunction: a.show, "printf": a.printf, "reReplaceAll": a.replaceAll, "match": a.match, "args": a.args,
		"print": bounded(fmt.Sprint), "println": bounded(fmt.Sprintln), "html": bounded(text_template.HTMLEscaper),
		"js": bounded(text_template.JSEscaper), "urlquery": bounded(text_template.URLQueryEscaper),
	}
}

// args makes a map of arguments, as Prometheus' function does.
func (a *allowance) args(args ...any) (map[string]any, error) {
	result := make(map[string]any, len(args))
	for i, arg := range args {
		if err := a.spend(sizeOf(arg) + 8); err != nil {
			return nil, err
		}
		result[fmt.Sprintf("arg%d", i)] = arg
	}
	return result, nil
}

// printf asks for as much as a format may make before it makes it: each verb the largest argument, and all widths and precisions.
func (a *allowance) printf(format string, args ...any) (string, error) {
	largest, most := 0, len(format)
	for _, arg := range args {
		largest = max(largest, sizeOf(arg))
		if width, ok := arg.(int); ok && strings.Contains(format, "*") {
			most += strings.Count(format, "*") * min(max(width, -width), templateBytesMax)
		}
	}
	most += strings.Count(format, "%") * largest
	for _, digits := range strings.FieldsFunc(format, func(r rune) bool { return !unicode.IsDigit(r) }) {
		width, err := strconv.Atoi(digits)
		if err != nil {
			width = templateBytesMax
		}
		most += min(width, templateBytesMax)
	}
	if most > a.bytes {
		return "", a.spend(most)
	}
	text := fmt.Sprintf(format, args...)
	return text, a.spend(len(text))
}

func (a *allowance) replaceAll(pattern, with, text string) (string, error) {
	if most := (len(text) + 1) * (len(with) + 1); most > a.bytes {
		return "", a.spend(most)
	}
	compiled, err := compilePattern(pattern)
	if err != nil {
		return "", err
	}
	text = compiled.ReplaceAllString(text, with)
	return text, a.spend(len(text))
}

func (a *allowance) match(pattern, text string) (bool, error) {
	compiled, err := compilePattern(pattern)
	if err != nil {
		return false, err
	}
	return compiled.MatchString(text), nil
}

func compilePattern(pattern string) (*regexp.Regexp, error) {
	if len(pattern) > patternBytesMax {
		return nil, fmt.Errorf("%w: a regular expression has more than %d bytes", errOverdrawn, patternBytesMax)
	}
	return regexp.Compile(pattern)
}

// Functions that rewritten templates call, beside those that people write.
const (
	stepFunction = "__step"
	showFunction = "__show"
)

// thrifty rewrites a template so that each of its parts takes its step, and whatever is written is counted. It means the same otherwise.
func thrifty(text string) (string, error) {
	const name = "template"
	tree := parse.New(name)
	tree.Mode = parse.SkipFuncCheck // Prometheus' functions were looked at when the file was read
	parts := map[string]*parse.Tree{}
	tree, err := tree.Parse(text, "", "", parts)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for _, part := range sortedParts(parts) {
		if part != name {
			out.WriteString("{{define " + strconv.Quote(part) + "}}")
			writeThrifty(&out, parts[part].Root)
			out.WriteString("{{end}}")
		}
	}
	writeThrifty(&out, tree.Root)
	return out.String(), nil
}

func sortedParts(parts map[string]*parse.Tree) (names []string) {
	for name := range parts {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// writeThrifty writes a list of nodes.
func writeThrifty(out *strings.Builder, list *parse.ListNode) {
	if list == nil {
		return
	}
	bytes := 0
	for _, node := range list.Nodes {
		if text, ok := node.(*parse.TextNode); ok {
			bytes += len(text.Text)
		}
	}
	fmt.Fprintf(out, "{{%s %d}}", stepFunction, bytes)
	for _, node := range list.Nodes {
		switch node := node.(type) {
		case *parse.TextNode:
			text := string(node.Text)
			if strings.Contains(text, "{") { // which may become a delimiter with what is behind it
				text = "{{" + strconv.Quote(text) + "}}"
			}
			out.WriteString(text)
		case *parse.ActionNode:
			out.WriteString("{{" + node.Pipe.String())
			if len(node.Pipe.Decl) == 0 {
				out.WriteString(" | " + showFunction)
			}
			out.WriteString("}}")
		case *parse.IfNode:
			writeBranch(out, "if", &node.BranchNode)
		case *parse.RangeNode:
			writeBranch(out, "range", &node.BranchNode)
		case *parse.WithNode:
			writeBranch(out, "with", &node.BranchNode)
		default: // template, break, continue
			out.WriteString(node.String())
		}
	}
}

func writeBranch(out *strings.Builder, word string, node *parse.BranchNode) {
	out.WriteString("{{" + word + " " + node.Pipe.String() + "}}")
	writeThrifty(out, node.List)
	if node.ElseList != nil {
		out.WriteString("{{else}}")
		writeThrifty(out, node.ElseList)
	}
	out.WriteString("{{end}}")
}
