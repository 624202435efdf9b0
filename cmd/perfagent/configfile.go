package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/perfagent/perfagent/internal/web"
)

// webConfiguration is what this program looks at of a web configuration.
type webConfiguration struct {
	TLS struct {
		Certificate     string `yaml:"cert"`
		CertificateFile string `yaml:"cert_file"`
		KeyFile         string `yaml:"key_file"`
		ClientCAFile    string `yaml:"client_ca_file"`
		ClientAuth      string `yaml:"client_auth_type"`
	} `yaml:"tls_server_config"`
	Users map[string]string `yaml:"basic_auth_users"`
}

// checkWebConfig fails where the web configuration, or a file that it names, is none that can be read at once: the server
// reads them without a bound of time or size. What else is wrong with them is for the server to say.
func checkWebConfig(name string) error {
	if name == "" {
		return nil
	}
	data, err := readNamedFile(name, configBytesMax)
	if err != nil {
		return fmt.Errorf("web configuration: %w", err)
	}
	var c webConfiguration
	if yaml.Unmarshal(data, &c) != nil {
		return nil
	}
	for _, file := range []string{c.TLS.CertificateFile, c.TLS.KeyFile, c.TLS.ClientCAFile} {
		if file == "" {
			continue
		}
		if !filepath.IsAbs(file) {
			file = filepath.Join(filepath.Dir(name), file)
		}
		if _, err := readNamedFile(file, pemBytesMax); err != nil {
			return fmt.Errorf("web configuration %s: %w", name, err)
		}
	}
	return nil
}

// protection tells what a web configuration asks for. What is wrong with the file is for the server to say, which reads it as
// well.
func protection(name string) web.Protection {
	if name == "" {
		return web.Protection{}
	}
	data, err := readNamedFile(name, configBytesMax)
	if err != nil {
		return web.Protection{}
	}
	var c webConfiguration
	if err := yaml.Unmarshal(data, &c); err != nil {
		return web.Protection{}
	}
	tls := c.TLS.Certificate != "" || c.TLS.CertificateFile != ""
	// Of the kinds of crypto/tls.ClientAuthType this one alone keeps out who has no certificate that was signed for him.
	return web.Protection{TLS: tls, Authentication: len(c.Users) > 0 || tls && c.TLS.ClientAuth == "RequireAndVerifyClientCert"}
}

// applyFile sets what a YAML file says, and returns the lines of the settings that are there. Keys are a setting's path, nested at its
// dots or not. An unknown key, a key given twice and a bad value are errors with the file and the line.
func applyFile(settings []setting, name string) (lines map[string]int, err error) {
	data, err := readNamedFile(name, configBytesMax)
	if err != nil {
		return nil, openFileError(err)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, extra yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil, nil // an empty file sets nothing
	case err != nil:
		return nil, syntaxError(name, data, err)
	}
	if err := decoder.Decode(&extra); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s:%d: a second document: merge it with the first", name, extra.Line)
	}
	reader := fileReader{name: name, byPath: make(map[string]*setting), seen: make(map[string]int)}
	for i := range settings {
		reader.byPath[settings[i].path] = &settings[i]
	}
	return reader.seen, reader.read(document.Content[0], "")
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// syntaxLinesMax bounds the lines among which the one with a mistake is looked for: each is a parse of all before it.
const syntaxLinesMax = 500

// syntaxError gives a YAML error the form of the other errors of the file.
func syntaxError(name string, data []byte, err error) error {
	m := yamlLine.FindStringSubmatch(err.Error())
	line, text := m[1], strings.TrimPrefix(err.Error(), m[0])
	if n := syntaxErrorLine(data); n > 0 {
		line = strconv.Itoa(n)
	}
	if line != "" {
		line = ":" + line
	}
	return fmt.Errorf("%s%s: not valid YAML: %s", name, line, text)
}

// syntaxErrorLine returns the line behind the last one up to which a file is valid, which is where the mistake is or what
// is not closed begins; 0 where that is not known. The parser's own line is missing at times, and at times one off.
func syntaxErrorLine(data []byte) int {
	ends := []int{0}
	for line := range bytes.Lines(data) {
		ends = append(ends, ends[len(ends)-1]+len(line))
	}
	if len(ends) > syntaxLinesMax {
		return 0
	}
	for n := len(ends) - 2; n >= 0; n-- {
		var document yaml.Node
		if err := yaml.NewDecoder(bytes.NewReader(data[:ends[n]])).Decode(&document); err == nil || errors.Is(err, io.EOF) {
			return n + 1
		}
	}
	return 0
}

// fileReader walks a configuration file.
type fileReader struct {
	name   string
	byPath map[string]*setting
	seen   map[string]int // line of each key
}

func (r *fileReader) errorf(node *yaml.Node, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %w", r.name, node.Line, fmt.Errorf(format, args...))
}

// read sets everything below node, whose keys continue prefix.
func (r *fileReader) read(node *yaml.Node, prefix string) error {
	if node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
		return nil
	}
	if node.Kind != yaml.MappingNode {
		if prefix == "" {
			return r.errorf(node, "keys such as capture.port are expected here")
		}
		return r.errorf(node, "%s: keys are expected below it%s", prefix, r.suggestion(prefix))
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		path := key.Value
		if prefix != "" {
			path = prefix + "." + key.Value
		}
		if err := r.entry(key, value, path); err != nil {
			return err
		}
	}
	return nil
}

// entry handles one key.
func (r *fileReader) entry(key, value *yaml.Node, path string) error {
	if key.Kind != yaml.ScalarNode || key.Value == "<<" {
		return r.errorf(key, "%s: only plain keys are understood", path)
	}
	if value.Kind == yaml.AliasNode {
		value = value.Alias
	}
	setting := r.byPath[path]
	switch {
	case path == configFileFlag:
		return r.errorf(key, "%s: a file cannot name another; give the flag or the environment variable", path)
	case setting == nil && r.isArea(path):
		return r.read(value, path)
	case setting == nil:
		return r.errorf(key, "unknown key %s%s", path, r.suggestion(path))
	case r.seen[path] != 0:
		return r.errorf(key, "%s: already set on line %d", path, r.seen[path])
	}
	r.seen[path] = key.Line
	if structured, ok := setting.value.(nodeValue); ok {
		if at, err := structured.setNode(value); err != nil {
			return r.errorf(at, "%s: %w", path, err)
		}
		return nil
	}
	texts, err := r.texts(value, setting)
	if err != nil {
		return r.errorf(value, "%s: %w", path, err)
	}
	if texts == nil {
		return nil
	}
	if err := setting.value.set(texts); err != nil {
		return r.errorf(value, "%s: %w", path, err)
	}
	return nil
}

// nodeValue is a value with a structure of its own in the file. setNode returns where a mistake is; on an error the value
// is as before.
type nodeValue interface {
	setNode(*yaml.Node) (at *yaml.Node, err error)
}

// texts returns a setting's value as text; nil where the key has none.
func (r *fileReader) texts(node *yaml.Node, s *setting) ([]string, error) {
	switch node.Kind {
	case yaml.ScalarNode:
		if node.Tag == "!!null" {
			return nil, nil
		}
		return s.value.split(node.Value), nil
	case yaml.SequenceNode:
		if !s.value.isList() {
			return nil, errors.New("one value is expected, not a list")
		}
		texts := []string{}
		for _, element := range node.Content {
			if element.Kind != yaml.ScalarNode {
				return nil, fmt.Errorf("element %d of the list is no plain value", len(texts)+1)
			}
			texts = append(texts, element.Value)
		}
		return texts, nil
	}
	return nil, errors.New("a value is expected, not keys")
}

// isArea tells whether path is the beginning of a setting's.
func (r *fileReader) isArea(path string) bool {
	for known := range r.byPath {
		if strings.HasPrefix(known, path+".") {
			return true
		}
	}
	return strings.HasPrefix(configFileFlag, path+".")
}

// suggestion names the setting that a wrong path was probably meant to be.
func (r *fileReader) suggestion(path string) string { return suggestion(path, maps.Keys(r.byPath)) }

// suggestion names the word that a wrong one was probably meant to be, or tells where they are listed.
func suggestion(wrong string, words iter.Seq[string]) string {
	best, distance := "", 4 // more than three slips are another word
	for known := range words {
		if d := editDistance(wrong, known); d < distance || d == distance && known < best {
			best, distance = known, d
		}
	}
	if best == "" {
		return "; perfagent run --help lists them"
	}
	return "; did you mean " + best + "?"
}

// editDistance is the number of inserted, deleted and replaced bytes between two words.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
