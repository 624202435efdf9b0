package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"html"
	"log/slog"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/smtp"
	"net/textproto"
	"strings"
	"time"
)

// How a connection to a mail server is encrypted.
const (
	TLSAuto     = "auto"     // by STARTTLS where the server offers it
	TLSRequired = "required" // by STARTTLS, or there is no mail
	TLSImplicit = "implicit" // from the first byte on, as on port 465
	TLSOff      = "off"
)

// TLSModes are the ways in which mail may be sent.
var TLSModes = []string{TLSAuto, TLSRequired, TLSImplicit, TLSOff}

// Email takes messages by SMTP.
type Email struct {
	Smarthost string // host:port
	From      string // addresses as ParseAddress of net/mail returns them
	To        []string
	// Username and PasswordFile are for PLAIN or LOGIN, which are used over TLS only. Username "" is From.
	Username, PasswordFile string
	// TLS is one of TLSModes. "" is implicit on port 465, required elsewhere, and auto for a server on this host.
	TLS        string
	ServerName string // that its certificate is for; "" is the host of Smarthost
	CAFile     string
}

// answersBytesMax bounds what is read of a mail server, with its certificates: a reply has no length of its own.
const answersBytesMax = 1 << 20

// bodyBytesMax bounds each of a message's two bodies.
const bodyBytesMax = 64 << 10

type emailSender struct {
	files files
	*Email
	host   string
	log    *slog.Logger
	strict bool // one address that is refused is a failure, also where others are not
}

// taciturn is a connection of which so many bytes are read.
type taciturn struct {
	net.Conn
	left int
}

// Read fails where there is more.
func (t *taciturn) Read(p []byte) (int, error) {
	if t.left == 0 {
		return 0, fmt.Errorf("the server answers with more than %d bytes", answersBytesMax)
	}
	n, err := t.Conn.Read(p[:min(len(p), t.left)])
	t.left -= n
	return n, err
}

func (s *emailSender) deliver(ctx context.Context, n *notification) error {
	message, err := s.message(n)
	if err != nil {
		return permanently(err)
	}
	client, err := s.connect(ctx)
	if err != nil {
		return mailError("connect to "+s.Smarthost, err)
	}
	defer client.Close()
	if secrets, err := s.authorize(client); err != nil {
		return mailError("log in at "+s.Smarthost, hiding{err, secrets})
	}
	if err := s.send(client, message); err != nil {
		return mailError("send mail by "+s.Smarthost, err)
	}
	_ = client.Quit() // it is delivered
	return nil
}

// mailError tells what will fail again: a reply of 5xx (RFC 5321, 4.2.1).
func mailError(doing string, err error) error {
	var reply *textproto.Error
	var known deliveryError
	failure := deliveryError{permanent: errors.As(err, &reply) && reply.Code >= 500 || errors.As(err, &known) && known.permanent}
	failure.err = fmt.Errorf("%s: %s", doing, cut(oneLine(err.Error()), answerShownMax))
	return failure
}

func (s *emailSender) mode() string {
	host, port, _ := net.SplitHostPort(s.Smarthost)
	address := net.ParseIP(host)
	switch {
	case s.TLS != "":
		return s.TLS
	case port == "465":
		return TLSImplicit
	case host == "localhost" || address != nil && address.IsLoopback():
		return TLSAuto
	}
	return TLSRequired
}

// connect returns a session that is encrypted as wanted.
func (s *emailSender) connect(ctx context.Context) (_ *smtp.Client, err error) {
	pool, err := s.files.pool(s.CAFile)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(s.Smarthost)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{ServerName: host, RootCAs: pool, MinVersion: tls.VersionTLS12}
	if s.ServerName != "" {
		config.ServerName = s.ServerName
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	connection, err := dialer.DialContext(ctx, "tcp", s.Smarthost)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			connection.Close()
		}
	}()
	if deadline, ok := ctx.Deadline(); ok {
		if err := connection.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	connection = &taciturn{connection, answersBytesMax}
	mode := s.mode()
	if mode == TLSImplicit {
		connection = tls.Client(connection, config)
	}
	client, err := smtp.NewClient(connection, config.ServerName)
	if err != nil {
		return nil, err
	}
	if err := client.Hello(helloName(s.host)); err != nil {
		return nil, err
	}
	if mode == TLSImplicit || mode == TLSOff {
		return client, nil
	}
	if offered, _ := client.Extension("STARTTLS"); offered {
		return client, client.StartTLS(config)
	}
	if mode == TLSRequired {
		return nil, permanently(errors.New("the server offers no STARTTLS, and TLS is required"))
	}
	return client, nil
}

// helloName is a host's name as EHLO takes it.
func helloName(host string) string {
	name := strings.Map(func(r rune) rune {
		if r == '-' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return -1
	}, host)
	if name == "" {
		return "localhost"
	}
	return name
}

// authorize logs in where there is a password. A server may repeat in its refusal the secrets that are returned.
func (s *emailSender) authorize(client *smtp.Client) (secrets []string, err error) {
	if s.PasswordFile == "" {
		return nil, nil
	}
	if _, encrypted := client.TLSConnectionState(); !encrypted {
		return nil, permanently(errors.New("the connection is not encrypted, and a password goes over TLS only"))
	}
	password, err := s.files.secret(s.PasswordFile)
	if err != nil {
		return nil, err
	}
	user := s.Username
	if user == "" {
		user = s.From
	}
	for _, text := range []string{password, "\x00" + user + "\x00" + password} { // as LOGIN and PLAIN send it
		secrets = append(secrets, text, base64.StdEncoding.EncodeToString([]byte(text)))
	}
	offered, mechanisms := client.Extension("AUTH")
	words := strings.Fields(strings.ToUpper(mechanisms))
	host, _, _ := net.SplitHostPort(s.Smarthost)
	if s.ServerName != "" {
		host = s.ServerName
	}
	for _, word := range words {
		switch word {
		case "PLAIN":
			return secrets, client.Auth(smtp.PlainAuth("", user, password, host))
		case "LOGIN":
			return secrets, client.Auth(&loginAuth{user, password})
		}
	}
	if !offered {
		return secrets, permanently(errors.New("the server takes no password: leave it out"))
	}
	return secrets, permanently(fmt.Errorf("the server offers neither PLAIN nor LOGIN, but %s", mechanisms))
}

// loginAuth is the mechanism LOGIN, which some servers have alone.
type loginAuth struct{ user, password string }

func (a *loginAuth) Start(server *smtp.ServerInfo) (string, []byte, error) {
	if !server.TLS {
		return "", nil, errors.New("a password goes over TLS only")
	}
	return "LOGIN", nil, nil
}

func (a *loginAuth) Next(prompt []byte, more bool) ([]byte, error) {
	if !more {
		return nil, nil
	}
	if strings.HasPrefix(strings.ToLower(string(prompt)), "user") {
		return []byte(a.user), nil
	}
	return []byte(a.password), nil
}

func (s *emailSender) send(client *smtp.Client, message []byte) error {
	if err := client.Mail(s.From); err != nil {
		return err
	}
	if err := s.recipients(client); err != nil {
		return err
	}
	w, err := client.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(message); err != nil {
		return err
	}
	return w.Close()
}

// recipients names them. One that is refused for good, such as that of who has left, does not keep the mail from the others.
func (s *emailSender) recipients(client *smtp.Client) error {
	var refused []string
	for _, to := range s.To {
		err := client.Rcpt(to)
		var reply *textproto.Error
		switch {
		case err == nil:
		case errors.As(err, &reply) && reply.Code >= 500 && !s.strict && len(refused) < len(s.To)-1:
			refused = append(refused, to+": "+cut(oneLine(err.Error()), answerShownMax))
		default:
			return err
		}
	}
	if len(refused) > 0 {
		s.log.Warn("a mail goes out without some of its recipients, whom the server refuses", "server", s.Smarthost, "refused", refused)
	}
	return nil
}

// message makes a mail with two bodies of the same content. Whatever an alert says stands in no header but the subject, encoded.
func (s *emailSender) message(n *notification) ([]byte, error) {
	var m bytes.Buffer
	parts := multipart.NewWriter(&m)
	header := func(name, value string) { fmt.Fprintf(&m, "%s: %s\r\n", name, oneLine(value)) }
	header("From", s.From)
	header("To", strings.Join(s.To, ", "))
	header("Subject", mime.QEncoding.Encode("utf-8", cut(oneLine(n.title()+" on "+s.host), slackLineMax)))
	header("Date", n.Time.Format(time.RFC1123Z))
	header("Message-ID", "<"+n.ID+"@"+helloName(s.host)+">")
	header("Auto-Submitted", "auto-generated")
	header("MIME-Version", "1.0")
	header("Content-Type", `multipart/alternative; boundary="`+parts.Boundary()+`"`)
	m.WriteString("\r\n")
	for _, body := range []struct{ kind, text string }{{"plain", plainBody(n, s.host)}, {"html", htmlBody(n, s.host)}} {
		part, err := parts.CreatePart(textproto.MIMEHeader{"Content-Type": {"text/" + body.kind + "; charset=utf-8"},
			"Content-Transfer-Encoding": {"quoted-printable"}})
		if err != nil {
			return nil, fmt.Errorf("make the message: %w", err)
		}
		quoted := quotedprintable.NewWriter(part)
		if _, err := quoted.Write([]byte(body.text)); err != nil {
			return nil, fmt.Errorf("make the message: %w", err)
		}
		if err := quoted.Close(); err != nil {
			return nil, fmt.Errorf("make the message: %w", err)
		}
	}
	if err := parts.Close(); err != nil {
		return nil, fmt.Errorf("make the message: %w", err)
	}
	return m.Bytes(), nil
}

// mailFields are the lines that a mail has of an alert.
func mailFields(a *item) [][2]string {
	fields := [][2]string{{"Status", a.status()}, {"Summary", a.summary()}}
	if description := a.Annotations["description"]; description != "" {
		fields = append(fields, [2]string{"Description", description})
	}
	if advice := a.advice(); advice != "" && !a.Over {
		fields = append(fields, [2]string{"Next", advice})
	}
	fields = append(fields, [2]string{"Labels", a.about()}, [2]string{"Since", a.StartsAt.UTC().Format(time.RFC3339)})
	if a.Over {
		fields = append(fields, [2]string{"Until", a.EndsAt.UTC().Format(time.RFC3339)})
	}
	if CheckURL(a.GeneratorURL) == nil {
		fields = append(fields, [2]string{"Source", a.GeneratorURL})
	}
	return fields
}

func plainBody(n *notification, host string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s on %s\n", oneLine(n.title()), host)
	for i := range n.Alerts {
		if b.Len() > bodyBytesMax-2*alertBytesMax {
			fmt.Fprintf(&b, "\nand %d more\n", len(n.Alerts)-i)
			break
		}
		b.WriteString("\n")
		for _, field := range mailFields(&n.Alerts[i]) {
			fmt.Fprintf(&b, "%s: %s\n", field[0], oneLine(field[1]))
		}
	}
	return b.String()
}

func htmlBody(n *notification, host string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "<!DOCTYPE html><html><body><h3>%s</h3>\n", html.EscapeString(oneLine(n.title())+" on "+host))
	for i := range n.Alerts {
		if b.Len() > bodyBytesMax-2*alertBytesMax {
			fmt.Fprintf(&b, "<p>and %d more</p>\n", len(n.Alerts)-i)
			break
		}
		b.WriteString("<table>\n")
		for _, field := range mailFields(&n.Alerts[i]) {
			fmt.Fprintf(&b, "<tr><td>%s</td><td>%s</td></tr>\n", field[0], html.EscapeString(oneLine(field[1])))
		}
		b.WriteString("</table>\n")
	}
	b.WriteString("</body></html>\n")
	return b.String()
}
