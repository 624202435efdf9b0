package main

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const (
	// analyzeRowsMax and analyzeColumnsMax bound what an engine is given at once: two years of minutes, and the metrics of a
	// large host. Together they would be 8 GB, so there is analyzeCellsMax as well: 160 MB.
	analyzeRowsMax    = 1 << 20
	analyzeColumnsMax = 1 << 10
	analyzeCellsMax   = 20 << 20
	// analyzeRowBytesMax bounds a row of a table with the comments before it, which takes memory until it ends: 1,024 columns of 20 digits are 20 KiB.
	analyzeRowBytesMax = 1 << 20
	// analyzeObjectBytesMax bounds a JSON object likewise: a million values of 16 digits.
	analyzeObjectBytesMax = 16 << 20
	// analyzeTimeBytesMax is more than any time has that is understood.
	analyzeTimeBytesMax = 64
)

// bounded is input that fails where more of it is read at a time than there is memory for: without a line's end, or with a quote that nothing
// closes, it would be kept to its end.
type bounded struct {
	from    io.Reader
	what    string
	most    int
	pending int // bytes since the last row or object that was complete
}

func (b *bounded) Read(to []byte) (int, error) {
	if b.pending >= b.most {
		return 0, fmt.Errorf("%s is longer than %d MiB", b.what, b.most>>20)
	}
	n, err := b.from.Read(to[:min(len(to), b.most-b.pending)])
	b.pending += n
	return n, err
}

// complete says that a row or object was.
func (b *bounded) complete() { b.pending = 0 }

// byteOrderMark is what some programs put before text.
const byteOrderMark = "\ufeff"

// inputOf buffers input, and leaves out a byte order mark.
func inputOf(r io.Reader) *bufio.Reader {
	in := bufio.NewReaderSize(r, analyzeLineMax)
	if mark, err := in.Peek(len(byteOrderMark)); err == nil && string(mark) == byteOrderMark {
		_, _ = in.Discard(len(byteOrderMark)) // they are there
	}
	return in
}

// table is what a person hands to an engine: named columns of numbers, NaN where one is missing.
type table struct {
	names   []string
	columns [][]float64
	times   []string // as given; nil: there was no such column
	step    time.Duration
	first   time.Time // zero: the times are not understood
}

func (t *table) rows() int {
	if len(t.columns) == 0 {
		return 0
	}
	return len(t.columns[0])
}

// timeNames are headers of a column that is not a metric.
var timeNames = map[string]bool{"time": true, "timestamp": true, "date": true, "datetime": true, "ts": true}

// readTable reads CSV with or without a header, also with semicolons or tabs, and single values. A first column of times is
// kept apart. What is missing is empty, NaN or null.
func readTable(r io.Reader) (*table, error) {
	limited := &bounded{from: inputOf(r), what: "a row", most: analyzeRowBytesMax}
	in := bufio.NewReaderSize(limited, analyzeLineMax)
	head, err := in.Peek(analyzeLineMax)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read values: %w", err)
	}
	lines := csv.NewReader(in)
	lines.ReuseRecord, lines.TrimLeadingSpace, lines.FieldsPerRecord, lines.Comment = true, true, -1, '#'
	lines.Comma = separatorOf(head)
	t := &table{}
	timed := false
	for n := 0; ; n++ {
		record, err := lines.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read values: %w", err)
		}
		limited.complete()
		number, _ := lines.FieldPos(0)
		if n == 0 {
			timed = startsWithTime(record)
			if header, err := t.start(record, timed); err != nil {
				return nil, err
			} else if header {
				continue
			}
		}
		if err := t.add(record, timed, number); err != nil {
			return nil, err
		}
	}
	if t.rows() == 0 {
		return nil, errors.New("there is no value on standard input")
	}
	if err := t.understandTimes(); err != nil {
		return nil, err
	}
	return t, nil
}

// separatorOf tells from the first line what is between two values.
func separatorOf(head []byte) rune {
	line, _, _ := bytes.Cut(bytes.TrimLeft(head, "\r\n"), []byte("\n"))
	for _, separator := range ",;\t" {
		if bytes.ContainsRune(line, separator) {
			return separator
		}
	}
	return ','
}

// startsWithTime tells whether the first of several columns is times, from the first line: a header that says so, or a time.
func startsWithTime(record []string) bool {
	if len(record) < 2 {
		return false
	}
	if timeNames[strings.ToLower(strings.TrimSpace(record[0]))] {
		return true
	}
	_, ok := parseTime(record[0])
	_, number := parseValue(record[0])
	return ok && !number
}

// start names the columns from the first line; header: it has the names.
func (t *table) start(record []string, timed bool) (header bool, err error) {
	if timed {
		header = timeNames[strings.ToLower(strings.TrimSpace(record[0]))]
		record = record[1:]
	}
	if len(record) > analyzeColumnsMax {
		return false, fmt.Errorf("%d columns are more than %d", len(record), analyzeColumnsMax)
	}
	for _, field := range record {
		if _, ok := parseValue(field); !ok {
			header = true
		}
	}
	for i, field := range record {
		name := strings.TrimSpace(field)
		if !header {
			if name = "value"; len(record) > 1 {
				name = "column " + strconv.Itoa(i+1)
			}
		}
		t.names = append(t.names, name)
	}
	t.columns = make([][]float64, len(record))
	return header, nil
}

// add appends a line of values.
func (t *table) add(record []string, timed bool, number int) error {
	if timed {
		t.times = append(t.times, strings.Clone(record[0][:min(len(record[0]), analyzeTimeBytesMax)]))
		record = record[1:]
	}
	if len(record) != len(t.columns) {
		return fmt.Errorf("line %d: %d values in a table of %d columns", number, len(record), len(t.columns))
	}
	if rows := t.rows() + 1; rows > analyzeRowsMax || rows*len(t.columns) > analyzeCellsMax {
		return fmt.Errorf("line %d: more than %d rows or %d values; join some first", number, analyzeRowsMax, analyzeCellsMax)
	}
	for i, field := range record {
		v, ok := parseValue(field)
		if !ok {
			return fmt.Errorf("line %d, column %s: %q is not a number", number, t.names[i], field)
		}
		t.columns[i] = append(t.columns[i], v)
	}
	return nil
}

// parseValue reads a number; NaN for one that is missing.
func parseValue(field string) (v float64, ok bool) {
	switch field = strings.TrimSpace(field); strings.ToLower(field) {
	case "", "nan", "null", "na", "-":
		return math.NaN(), true
	}
	v, err := strconv.ParseFloat(field, 64)
	return v, err == nil || errors.Is(err, strconv.ErrRange)
}

// timeLayouts are how people write times, beside seconds since 1970.
var timeLayouts = []string{time.RFC3339Nano, "2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02 15:04", "2006-01-02"}

func parseTime(field string) (time.Time, bool) {
	field = strings.TrimSpace(field)
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, field); err == nil {
			return t, true
		}
	}
	const latest = 1e11 // seconds: the year 5138. What is larger is in a finer unit.
	if v, err := strconv.ParseFloat(field, 64); err == nil && v > 0 && v < 1e20 {
		for v > latest {
			v /= 1000
		}
		return time.UnixMicro(int64(v * 1e6)).UTC(), true
	}
	return time.Time{}, false
}

// understandTimes sets step and first where the times are understood: the rows are steps of a series, in their order.
func (t *table) understandTimes() error {
	if len(t.times) < 2 {
		return nil
	}
	for i := 1; i < len(t.times); i++ {
		before, ok := parseTime(t.times[i-1])
		if at, also := parseTime(t.times[i]); ok && also && !at.After(before) {
			return fmt.Errorf("row %d: the time %s is not after that of the row before, %s: sort the rows by time", i+1, clip(t.times[i], 40), clip(t.times[i-1], 40))
		}
	}
	first, ok := parseTime(t.times[0])
	last, also := parseTime(t.times[len(t.times)-1])
	if step := last.Sub(first) / time.Duration(len(t.times)-1); ok && also && step > 0 {
		t.first, t.step = first, step
	}
	return nil
}

// readsInput rejects words behind a command that reads standard input.
func readsInput(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unexpected argument %q: the values are read from standard input, as < FILE", clip(args[0], 40))}
	}
	return nil
}

// column returns the only column, or the named one.
func (t *table) column(name string) (string, []float64, error) {
	if name == "" {
		if len(t.names) > 1 {
			return "", nil, fmt.Errorf("there are %d columns; say which with --column: %s", len(t.names), clip(strings.Join(t.names, ", "), 200))
		}
		return t.names[0], t.columns[0], nil
	}
	for i, n := range t.names {
		if n == name {
			return n, t.columns[i], nil
		}
	}
	return "", nil, fmt.Errorf("there is no column %q among %s", name, clip(strings.Join(t.names, ", "), 200))
}

// clip cuts a text that is too long for a message.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}

// steps writes a number of steps as a duration, where the step is known.
func (t *table) steps(n float64) string {
	if t.step <= 0 || n*float64(t.step) > float64(math.MaxInt64)/2 {
		return strconv.FormatFloat(math.Round(n), 'f', 0, 64) + " steps"
	}
	span := time.Duration(n * float64(t.step)).Round(time.Second)
	days, rest := span/day, span%day
	text := rest.String() // 1h0m0s
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	switch {
	case days == 0:
		return text
	case rest == 0:
		return fmt.Sprintf("%dd", days)
	}
	return fmt.Sprintf("%dd%s", days, text)
}

// eachObject hands every line of JSON to use; values is what a line is read into.
func eachObject[T any](r io.Reader, use func(values *T) error) error {
	limited := &bounded{from: r, what: "it", most: analyzeObjectBytesMax}
	in := json.NewDecoder(limited)
	for n := 1; ; n++ {
		limited.complete()
		var values T
		if err := in.Decode(&values); errors.Is(err, io.EOF) {
			return nil
		} else if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) {
			return fmt.Errorf("object %d: %s is %s, not numbers or null", n, strings.ToLower(wrong.Field), wrong.Value)
		} else if err != nil {
			return fmt.Errorf("object %d: %w", n, err)
		}
		if err := use(&values); err != nil {
			return fmt.Errorf("object %d: %w", n, err)
		}
	}
}

// startsWithObject tells whether the input is JSON objects, not a table.
func startsWithObject(in *bufio.Reader) bool {
	for {
		c, err := in.ReadByte()
		if err != nil {
			return false
		}
		if c == ' ' || c == '\t' || c == '\r' || c == '\n' {
			continue
		}
		return in.UnreadByte() == nil && c == '{'
	}
}

// orMissing turns null into a missing value.
func orMissing(values []*float64) []float64 {
	numbers := make([]float64, len(values))
	for i, v := range values {
		if numbers[i] = math.NaN(); v != nil {
			numbers[i] = *v
		}
	}
	return numbers
}
