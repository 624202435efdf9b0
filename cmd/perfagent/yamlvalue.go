package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// parsed is a value that was written as YAML, and its text.
type parsed[T any] struct {
	value T
	text  string
}

// yamlValue is a value with a structure of its own. As text, for flags and variables, it is YAML.
type yamlValue[T any] struct {
	to   *parsed[T]
	read func(*yaml.Node) (value T, at *yaml.Node, err error)
}

func (v *yamlValue[T]) kind() string               { return "YAML" }
func (v *yamlValue[T]) isList() bool               { return false }
func (v *yamlValue[T]) choices() []string          { return nil }
func (v *yamlValue[T]) split(text string) []string { return []string{text} }
func (v *yamlValue[T]) texts() []string            { return []string{v.to.text} }
func (v *yamlValue[T]) String() string             { return v.to.text }

func (v *yamlValue[T]) set(texts []string) error {
	node, err := contentOf(texts)
	if err == nil && node == nil {
		*v.to = parsed[T]{}
		return nil
	}
	if err == nil {
		_, err = v.setNode(node)
	}
	return err
}

// contentOf parses the one text that a structured value has on the command line and in the environment; nil for an empty one.
func contentOf(texts []string) (*yaml.Node, error) {
	if len(texts) != 1 {
		return nil, errors.New("needs exactly one value")
	}
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(texts[0]), &document); err != nil {
		return nil, fmt.Errorf("not valid YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if len(document.Content) == 0 {
		return nil, nil
	}
	return document.Content[0], nil
}

func (v *yamlValue[T]) setNode(node *yaml.Node) (*yaml.Node, error) {
	if isNothing(node) {
		*v.to = parsed[T]{}
		return nil, nil
	}
	if alias := findAlias(node); alias != nil {
		return alias, errors.New("aliases are not understood here")
	}
	value, at, err := v.read(node)
	if err != nil {
		return at, err
	}
	text, err := yaml.Marshal(plain(node))
	if err != nil {
		return node, errors.New("the value cannot be written as YAML")
	}
	if err := v.checkText(string(text)); err != nil {
		return node, fmt.Errorf("the value cannot be written as YAML: %w", err)
	}
	*v.to = parsed[T]{value, strings.TrimSpace(string(text))}
	return nil, nil
}

// checkText fails where the text that is kept of a value does not mean one: a reload takes values over by their texts.
func (v *yamlValue[T]) checkText(text string) error {
	node, err := contentOf([]string{text})
	if err == nil && node != nil {
		_, _, err = v.read(node)
	}
	return err
}

// plain returns a copy without comments, in one line: the same for the same values.
func plain(node *yaml.Node) *yaml.Node {
	c := yaml.Node{Kind: node.Kind, Tag: node.Tag, Value: node.Value, Style: yaml.FlowStyle}
	if node.Kind == yaml.ScalarNode {
		c.Style = node.Style & (yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle)
	}
	if isNothing(node) {
		c.Value = "null" // a value that is left out would be written as an empty text, which means another thing
	}
	for _, inner := range node.Content {
		c.Content = append(c.Content, plain(inner))
	}
	return &c
}

func isNothing(node *yaml.Node) bool {
	return node.Kind == yaml.ScalarNode && node.Tag == "!!null"
}

func findAlias(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node
	}
	for _, inner := range node.Content {
		if alias := findAlias(inner); alias != nil {
			return alias
		}
	}
	return nil
}

// keyed reads the values of a mapping's keys. Each function returns where a mistake is, nil for its value.
type keyed map[string]func(*yaml.Node) (*yaml.Node, error)

// readKeys reads a mapping, whose name is for errors.
func readKeys(node *yaml.Node, name string, keys keyed) (*yaml.Node, error) {
	return eachKey(node, name, func(key string, value *yaml.Node) (*yaml.Node, error) {
		read := keys[key]
		if read == nil {
			return nil, fmt.Errorf("%s: unknown key %s: %s are known", name, key, strings.Join(slices.Sorted(maps.Keys(keys)), ", "))
		}
		at, err := read(value)
		if err != nil {
			if at == nil {
				at = value
			}
			return at, fmt.Errorf("%s: %w", key, err)
		}
		return nil, nil
	})
}

// readElements reads a list; what is no list is its only element.
func readElements(node *yaml.Node, read func(*yaml.Node) (*yaml.Node, error)) (*yaml.Node, error) {
	elements := []*yaml.Node{node}
	if node.Kind == yaml.SequenceNode {
		elements = node.Content
	}
	for _, element := range elements {
		if at, err := read(element); err != nil {
			if at == nil {
				at = element
			}
			return at, err
		}
	}
	return nil, nil
}

// into reads one plain value; its errors do not show it, as it may be a secret that stands at the wrong place.
func into[T any](to *T, parse func(string) (T, error)) func(*yaml.Node) (*yaml.Node, error) {
	return func(node *yaml.Node) (*yaml.Node, error) {
		if node.Kind != yaml.ScalarNode || node.Value == "" {
			return node, errors.New("a value is expected")
		}
		v, err := parse(node.Value)
		if err != nil {
			return node, err
		}
		*to = v
		return nil, nil
	}
}

// intoList reads one or several plain values.
func intoList[T any](to *[]T, parse func(string) (T, error)) func(*yaml.Node) (*yaml.Node, error) {
	return func(node *yaml.Node) (*yaml.Node, error) {
		return readElements(node, func(element *yaml.Node) (*yaml.Node, error) {
			var one T
			at, err := into(&one, parse)(element)
			*to = append(*to, one)
			return at, err
		})
	}
}
