package recording

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/perfagent/perfagent/internal/host"
)

// column is a number or a text of the samples over the ticks.
type column struct {
	Path string `json:"path,omitempty"`
	// Values has one for each tick: a number, a text, null where there was none, or "NaN", "+Inf", "-Inf". One alone is for all ticks.
	Values []json.RawMessage `json:"values,omitempty"`
	// Steps tells that values behind the first are differences to the one before: of integers.
	Steps bool `json:"steps,omitempty"`
}

// How many digits of a number are kept: of rates, of other figures of the host, and of sums that only grow.
const (
	digitsOfRates   = 3
	digitsOfFigures = 4
	digitsOfSums    = 9
)

// Where the paths of columns begin.
const (
	hostPath    = "host"
	witnessPath = "witness"
)

// table collects columns from values of any type.
type table struct {
	ticks int
	rows  map[string][]json.RawMessage
	whole map[string]bool // columns of integers
}

func newTable(ticks int) *table {
	return &table{ticks, map[string][]json.RawMessage{}, map[string]bool{}}
}

// add takes in a value at a tick.
func (t *table) add(tick int, path string, v any) { t.walk(tick, path, reflect.ValueOf(v)) }

func (t *table) walk(tick int, path string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			t.walk(tick, path+"*", v.Elem())
		}
	case reflect.Struct:
		switch v.Type() {
		case reflect.TypeFor[time.Time]():
			return // the tick's
		case counterType:
			t.counter(tick, path, v.Interface().(host.Counter))
			return
		}
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				t.walk(tick, path+"."+f.Name, v.Field(i))
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			t.walk(tick, path+"#"+strconv.Itoa(i), v.Index(i))
		}
	default:
		digits := digitsOfFigures
		if strings.HasPrefix(path, witnessPath) {
			digits = digitsOfSums
		}
		t.set(tick, path, text(v, digits))
		t.whole[path] = v.CanInt() || v.CanUint()
	}
}

// counter notes the rate, which the total follows from (Recording.total), and whether the counter is known at all.
func (t *table) counter(tick int, path string, c host.Counter) {
	if host.Known(c.Total) {
		t.set(tick, path+".Total", json.RawMessage("0"))
	} else {
		t.set(tick, path+".Total", json.RawMessage(`"NaN"`))
	}
	t.set(tick, path+".Rate", text(reflect.ValueOf(c.Rate), digitsOfRates))
}

func (t *table) set(tick int, path string, value json.RawMessage) {
	if t.rows[path] == nil {
		t.rows[path] = make([]json.RawMessage, t.ticks)
	}
	t.rows[path][tick] = value
}

// text is how a leaf is written.
func text(v reflect.Value, digits int) json.RawMessage {
	switch v.Kind() {
	case reflect.String:
		quoted, _ := json.Marshal(v.String()) // a text always has a form
		return quoted
	case reflect.Bool:
		return json.RawMessage(strconv.FormatBool(v.Bool()))
	case reflect.Float64, reflect.Float32:
		f := v.Float()
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return json.RawMessage(strconv.Quote(strconv.FormatFloat(f, 'g', -1, 64)))
		}
		if math.Abs(f) < 1e4 && f == math.Trunc(f) {
			return json.RawMessage(strconv.FormatFloat(f, 'f', 0, 64))
		}
		return json.RawMessage(strconv.FormatFloat(f, 'g', digits, 64))
	}
	if v.CanInt() {
		return json.RawMessage(strconv.FormatInt(v.Int(), 10))
	}
	return json.RawMessage(strconv.FormatUint(v.Uint(), 10))
}

// columns returns what was collected, in the order of the paths.
func (t *table) columns() []column {
	var all []column
	for path, values := range t.rows {
		for i := range values {
			if values[i] == nil {
				values[i] = json.RawMessage("null")
			}
		}
		if !slices.ContainsFunc(values, func(v json.RawMessage) bool { return string(v) != string(values[0]) }) {
			values = values[:1]
		}
		all = append(all, column{Path: path, Values: values})
		if len(values) > 1 && t.whole[path] {
			all[len(all)-1].difference()
		}
	}
	slices.SortFunc(all, func(a, b column) int { return strings.Compare(a.Path, b.Path) })
	return all
}

// difference makes values the differences to those before, if there are values at all ticks.
func (c *column) difference() {
	steps, last := make([]json.RawMessage, len(c.Values)), int64(0)
	for i, v := range c.Values {
		n, err := strconv.ParseInt(string(v), 10, 64)
		if err != nil {
			return
		}
		steps[i] = json.RawMessage(strconv.FormatInt(n-last, 10))
		last = n
	}
	c.Values, c.Steps = steps, true
}

// sum undoes difference.
func (c *column) sum() error {
	last := int64(0)
	for i, v := range c.Values {
		n, err := strconv.ParseInt(string(v), 10, 64)
		if err != nil {
			return err
		}
		last += n
		c.Values[i] = json.RawMessage(strconv.FormatInt(last, 10))
	}
	return nil
}

// fill sets a column's values.
func (r *Recording) fill(c *column) error {
	if len(c.Values) != 1 && len(c.Values) != len(r.All) {
		return fmt.Errorf("column %s: %d values", c.Path, len(c.Values))
	}
	if c.Steps {
		if err := c.sum(); err != nil {
			return fmt.Errorf("column %s: %w", c.Path, err)
		}
	}
	rest, isHost := strings.CutPrefix(c.Path, hostPath)
	steps, err := parsePath(strings.TrimPrefix(rest, witnessPath))
	for i := range r.All {
		value := c.Values[min(i, len(c.Values)-1)]
		if string(value) == "null" || err != nil {
			continue
		}
		to := reflect.ValueOf(&r.All[i].Witness)
		if isHost {
			to = reflect.ValueOf(&r.All[i].Host)
		}
		err = put(to.Elem(), steps, value)
	}
	if err != nil {
		return fmt.Errorf("column %s: %w", c.Path, err)
	}
	return nil
}

// step leads from a value to one below: what a pointer points to (*), a field (.), or an element (#).
type step struct {
	kind  byte
	field string
	index int
}

func parsePath(path string) (steps []step, err error) {
	for path != "" && err == nil {
		s := step{kind: path[0]}
		end := 1 + strings.IndexAny(path[1:], ".#*")
		if end == 0 {
			end = len(path)
		}
		switch s.field = path[1:end]; s.kind {
		case '.', '*':
		case '#':
			s.index, err = strconv.Atoi(s.field)
		default:
			err = fmt.Errorf("%q is no path", path)
		}
		steps, path = append(steps, s), path[end:]
	}
	return steps, err
}

// put sets the leaf to which the steps lead from v.
func put(v reflect.Value, steps []step, value json.RawMessage) error {
	for _, s := range steps {
		switch {
		case s.kind == '*' && v.Kind() == reflect.Pointer:
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		case s.kind == '.' && v.Kind() == reflect.Struct:
			if v = v.FieldByName(s.field); !v.IsValid() {
				return fmt.Errorf("no field %s", s.field)
			}
		case s.kind == '#' && (v.Kind() == reflect.Slice || v.Kind() == reflect.Array):
			if s.index < 0 || s.index >= elementsMax || v.Kind() == reflect.Array && s.index >= v.Len() {
				return fmt.Errorf("no element %d", s.index)
			}
			for v.Len() <= s.index {
				v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
			}
			v = v.Index(s.index)
		default:
			return fmt.Errorf("%c%s in a %s", s.kind, s.field, v.Type())
		}
	}
	return leaf(v, value)
}

// elementsMax bounds a list.
const elementsMax = 1 << 12

func leaf(v reflect.Value, value json.RawMessage) error {
	if v.Kind() == reflect.Float64 && value[0] == '"' {
		f, err := strconv.ParseFloat(strings.Trim(string(value), `"`), 64)
		v.SetFloat(f)
		return err
	}
	return json.Unmarshal(value, v.Addr().Interface())
}
