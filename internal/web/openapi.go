package web

import (
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// object is a JSON object of the OpenAPI document.
type object map[string]any

// openAPI describes the routes as an OpenAPI 3.1 document. Answers' schemas come from the Go types that are encoded, so
// they cannot be out of date.
func openAPI(routes []Route, version string) object {
	s := schemas{object{"Problem": problemSchema}}
	paths := object{}
	for i := range routes {
		r := &routes[i]
		item := object{}
		for _, method := range r.methods() {
			if method != http.MethodHead { // GET's without a body
				item[strings.ToLower(method)] = s.operation(r)
			}
		}
		paths[r.Path] = item
	}
	if version == "" {
		version = "unknown"
	}
	return object{
		"openapi": "3.1.0",
		"info": object{"title": "perfagent", "version": version, "license": object{"name": "Apache-2.0", "identifier": "Apache-2.0"},
			"description": "What the agent saw of this host's HTTP exchanges. GET never changes anything. Errors are problem documents (RFC 9457), below /api/v1 those of Prometheus."},
		"paths":      paths,
		"components": object{"schemas": s.all},
	}
}

var problemSchema = object{
	"type":        "object",
	"description": "A problem document (RFC 9457) of the type about:blank: the status says what kind it is.",
	"required":    []string{"title", "status"},
	"properties": object{
		"title":  object{"type": "string"},
		"status": object{"type": "integer"},
		"detail": object{"type": "string"},
	},
}

// schemas collects the schemas of named types.
type schemas struct{ all object }

func (s *schemas) operation(r *Route) object {
	content := object{}
	if r.Response != nil {
		content["schema"] = s.schema(reflect.TypeOf(r.Response))
	}
	responses := object{"200": object{"description": r.Summary, "content": object{r.mediaType(): content}}}
	statuses := append(slices.Clone(r.Errors), http.StatusMethodNotAllowed)
	if len(r.Parameters) > 0 {
		statuses = append(statuses, http.StatusBadRequest)
	}
	if r.Endless {
		statuses = append(statuses, http.StatusServiceUnavailable)
	}
	for _, status := range statuses {
		content := object{"application/problem+json": object{"schema": object{"$ref": "#/components/schemas/Problem"}}}
		if r.Failure != nil && status != http.StatusMethodNotAllowed {
			content = object{"application/json": object{"schema": s.schema(reflect.TypeOf(r.Failure))}}
		}
		responses[strconv.Itoa(status)] = object{"description": http.StatusText(status), "content": content}
	}
	operation := object{"summary": r.Summary, "responses": responses}
	var parameters []object
	for i := range r.Parameters {
		parameters = append(parameters, r.Parameters[i].describe())
	}
	if parameters != nil {
		operation["parameters"] = parameters
	}
	return operation
}

func (p *Parameter) describe() object {
	schema := object{"type": "string"}
	switch {
	case len(p.Enum) > 0:
		schema["enum"] = p.Enum
	case p.Most > 0:
		schema = object{"type": "integer", "minimum": p.Least, "maximum": p.Most}
	}
	if n, err := strconv.Atoi(p.Default); err == nil && p.Most > 0 {
		schema["default"] = n
	} else if p.Default != "" {
		schema["default"] = p.Default
	}
	if p.Repeatable {
		schema = object{"type": "array", "items": schema}
	}
	if p.InPath {
		return object{"name": p.Name, "in": "path", "required": true, "description": p.Description, "schema": schema}
	}
	return object{"name": p.Name, "in": "query", "description": p.Description, "schema": schema}
}

var timeType = reflect.TypeFor[time.Time]()

// schema describes what encoding/json makes of the type; a struct is referred to by its name.
func (s *schemas) schema(t reflect.Type) object {
	switch {
	case t == timeType:
		return object{"type": "string", "format": "date-time"}
	case t.Kind() == reflect.Pointer:
		inner := s.schema(t.Elem())
		if name, ok := inner["type"].(string); ok {
			inner["type"] = []string{name, "null"}
			return inner
		}
		return object{"oneOf": []object{inner, {"type": "null"}}}
	}
	switch t.Kind() {
	case reflect.Struct:
		name := strings.ToUpper(t.Name()[:1]) + strings.TrimSuffix(t.Name()[1:], "JSON")
		if strings.HasSuffix(t.PkgPath(), "/report") && name != "Report" {
			name = "Report" + name // a gap, a cause, a metric: others have such, too
		}
		if _, known := s.all[name]; !known {
			s.all[name] = object{} // a type that contains itself ends here
			s.all[name] = s.structure(t)
		}
		return object{"$ref": "#/components/schemas/" + name}
	case reflect.Slice:
		return object{"type": "array", "items": s.schema(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": s.schema(t.Elem())}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Float64:
		return object{"type": "number"}
	case reflect.Int, reflect.Int64, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return object{"type": "integer"}
	case reflect.Interface:
		return object{}
	}
	panic(fmt.Sprintf("web: %s in an answer", t))
}

func (s *schemas) structure(t reflect.Type) object {
	properties := object{}
	required := []string{}
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.IsExported() && !f.Anonymous {
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
			embedded := f.Type
			if embedded.Kind() == reflect.Pointer {
				embedded = embedded.Elem()
			}
			inner := s.structure(embedded)
			for k, v := range inner["properties"].(object) {
				properties[k] = v
			}
			required = append(required, inner["required"].([]string)...)
			continue
		}
		property := s.schema(f.Type)
		optional := strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")
		if names, ok := property["type"].([]string); ok && optional {
			property["type"] = names[0] // absent rather than null
		}
		if about := f.Tag.Get("about"); about != "" {
			property["description"] = about
		}
		properties[name] = property
		if !optional {
			required = append(required, name)
		}
	}
	slices.Sort(required)
	return object{"type": "object", "properties": properties, "required": required}
}
