package notify

import (
	"context"
	"fmt"
	"strings"
)

const (
	// listedMax is how many alerts a message for people lists.
	listedMax = 10
	// slackLineMax bounds a line, slackTextMax the text: Slack cuts attachments at about 8,000 characters, people stop earlier.
	slackLineMax = 300
	slackTextMax = 6000
)

type slackMessage struct {
	Text        string            `json:"text"`
	Attachments []slackAttachment `json:"attachments"`
}

type slackAttachment struct {
	Color    string   `json:"color"`
	Fallback string   `json:"fallback"`
	Text     string   `json:"text"`
	Markdown []string `json:"mrkdwn_in"`
}

type slackSender struct {
	poster
	*Slack
	host string
}

func (s *slackSender) deliver(ctx context.Context, n *notification) error {
	address, err := s.files.address(&s.Endpoint)
	if err != nil {
		return err
	}
	return s.post(ctx, posting{endpoint: &s.Endpoint, address: address, document: newSlackMessage(n, s.host)})
}

func newSlackMessage(n *notification, host string) *slackMessage {
	var text strings.Builder
	for i := range n.Alerts {
		if i == listedMax {
			fmt.Fprintf(&text, "and %d more", len(n.Alerts)-listedMax)
			break
		}
		a := &n.Alerts[i]
		line := slackEscape(cut(oneLine(a.summary()), slackLineMax))
		if strings.HasPrefix(a.GeneratorURL, "http") && CheckURL(a.GeneratorURL) == nil && !strings.ContainsAny(a.GeneratorURL, "<>|") {
			line = "<" + slackEscape(a.GeneratorURL) + "|" + line + ">"
		}
		fmt.Fprintf(&text, "%s: %s\n", a.status(), line)
		if description := a.Annotations["description"]; description != "" {
			text.WriteString(slackEscape(cut(oneLine(description), slackLineMax)) + "\n")
		}
		if advice := a.advice(); advice != "" && !a.Over {
			text.WriteString("Next: " + slackEscape(cut(oneLine(advice), slackLineMax)) + "\n")
		}
		text.WriteString(slackEscape(cut(oneLine(a.about()), slackLineMax)) + "\n")
	}
	title := slackEscape(cut(oneLine(n.title()+" on "+host), slackLineMax))
	return &slackMessage{Text: title, Attachments: []slackAttachment{{Color: slackColor(n), Fallback: title, Text: cut(text.String(), slackTextMax),
		Markdown: []string{}}}} // labels are no formatting
}

func slackColor(n *notification) string {
	switch {
	case n.status() == statusResolved:
		return "good"
	case n.Alerts[0].isUrgent(): // the worst comes first
		return "danger"
	}
	return "warning"
}

// slackEscape keeps text from being a link or a mention (<!channel>).
var slackEscape = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace
