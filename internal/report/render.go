package report

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"
	"time"

	"github.com/perfagent/perfagent/internal/chart"
	"github.com/perfagent/perfagent/internal/series"
)

// Formats are what a report can be written as.
var Formats = []string{"html", "markdown", "json"}

// MediaTypes are those of the formats, Extensions how their files are called.
var (
	MediaTypes = map[string]string{"html": "text/html; charset=utf-8", "markdown": "text/markdown; charset=utf-8", "json": "application/json"}
	Extensions = map[string]string{"html": ".html", "markdown": ".md", "json": ".json"}
)

// Write writes the report in a format.
func (r *Report) Write(w io.Writer, format string) error {
	switch format {
	case "html":
		return page.Execute(w, r)
	case "markdown":
		_, err := io.WriteString(w, r.markdown())
		return err
	case "json":
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(r)
	}
	return fmt.Errorf("%q is not one of %s", format, strings.Join(Formats, ", "))
}

//go:embed page.css
var pageStyle string

//go:embed page.html
var pageText string

// ContentPolicy lets the page use its own style, by its hash, and nothing else. The page has it too, for when it is kept as a file.
var ContentPolicy = func() string {
	sum := sha256.Sum256([]byte(pageStyle))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'"
}()

// pictureWidth and pictureHeight leave letters of a readable size on a telephone.
const pictureWidth, pictureHeight = 480, 220

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"style":    func() template.CSS { return template.CSS(pageStyle) },
	"policy":   func() string { return ContentPolicy },
	"clean":    clean,
	"moment":   func(t time.Time) string { return t.UTC().Format("2 January 2006 15:04 UTC") },
	"number":   number,
	"ms":       milliseconds,
	"count":    countText,
	"change":   changeText,
	"span":     func(from, to time.Time) string { return series.SpanText(to.Sub(from)) },
	"until":    untilText,
	"figure":   func(v float64) string { return series.NumberText(v) },
	"percent":  func(v float64) string { return series.NumberText(math.Round(100 * v)) },
	"lately":   lately,
	"prose":    prose,
	"unit":     func(unit string) string { return unitTexts[unit] },
	"picture":  picture,
	"coverage": func(c Coverage, r *Report) string { return coverageText(c, r) },
	"more":     func(all, shown int) int { return all - shown },
	"rows":     func(title, order string, total int, all []EndpointRow) table { return table{title, order, total, all} },
	"shown":    func(m Metric) bool { return m.picture != nil && m.picture.Empty == "" },
	"upper":    func(text string) string { return strings.ToUpper(text[:min(1, len(text))]) + text[min(1, len(text)):] },
}).Parse(pageText))

// table is one of endpoints.
type table struct {
	Title, Order string
	All          int
	Rows         []EndpointRow
}

// changesMax bounds the changes of a metric that are shown: of more nobody keeps the thread.
const changesMax = 3

// lately are sentences of the last changes, and how many there were before.
func lately(changes []string) (all []string) {
	if n := len(changes) - changesMax; n > 0 {
		all = append(all, fmt.Sprintf("%d changes before these are not listed", n))
		changes = changes[n:]
	}
	for _, c := range changes {
		all = append(all, "changed "+c)
	}
	return all
}

// prose is a sentence of the agent, whose names stand between back quotes: they are shown as code, and all of it as text.
func prose(text string) template.HTML {
	parts := strings.Split(clean(text), "`")
	var b strings.Builder
	for i, part := range parts {
		escaped := template.HTMLEscapeString(part)
		switch {
		case i%2 == 0:
			b.WriteString(escaped)
		case i == len(parts)-1: // the last one has no end
			b.WriteString("`" + escaped)
		default:
			b.WriteString("<code>" + escaped + "</code>")
		}
	}
	return template.HTML(b.String())
}

// unitTexts are units behind a number.
var unitTexts = map[string]string{"ms": " ms", "rps": "/s", "percent": " %", "mb": " MB", "mb_per_second": " MB/s", "per_second": "/s"}

const unknownText = "–"

func number(v *float64) string {
	if v == nil {
		return unknownText
	}
	return series.NumberText(*v)
}

func milliseconds(v *float64) string {
	if v == nil {
		return unknownText
	}
	return timeText(*v)
}

// changeText is a change of a 95th percentile.
func changeText(is, was *float64) string {
	if is == nil || was == nil || *was <= 0 {
		return unknownText
	}
	percent := math.Round(100 * (*is/(*was) - 1))
	if percent > 900 {
		return "× " + series.NumberText(*is / *was)
	}
	return fmt.Sprintf("%+.0f %%", percent+0) // no -0
}

func untilText(end *time.Time) string {
	if end == nil {
		return ", goes on"
	}
	return " to " + end.UTC().Format("2 January 15:04 UTC")
}

func coverageText(c Coverage, r *Report) string {
	text := fmt.Sprintf("The agent counted for %s of %s (%s %%).", series.SpanText(time.Duration(c.CountedSeconds*1e9)), series.SpanText(r.To.Sub(r.From)),
		series.NumberText(c.SharePercent))
	if c.GapsTotal == 0 {
		return text + fmt.Sprintf(" No gap of %s or more was found.", series.SpanText(time.Duration(2*c.StepSeconds*1e9)))
	}
	return text
}

// picture is the metric's chart, whose text the chart has made harmless; it takes the colours of the page.
func picture(m Metric) template.HTML {
	c := *m.picture
	c.Width, c.Height, c.Colors = pictureWidth, pictureHeight, chart.PageTheme
	c.Title, c.Subtitle, c.Empty = clean(c.Title), "", clean(c.Empty)
	c.Marks = append([]chart.Mark{}, c.Marks...)
	for i := range c.Marks {
		c.Marks[i].Text = clean(c.Marks[i].Text)
	}
	return template.HTML(c.SVG())
}
