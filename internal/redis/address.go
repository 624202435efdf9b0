package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"path"
	"strconv"
	"strings"
)

// Address is where a server is, without its password.
type Address struct {
	Network string // tcp or unix
	Address string
	TLS     bool
	User    string
	DB      int
}

// dbMax is more than servers are configured with.
const dbMax = 1 << 20

// ParseAddress reads redis://[user@]host[:6379][/db], rediss://… (TLS) and unix:///path[?db=N]. Its errors leave out the text, which may
// hold credentials.
func ParseAddress(s string) (Address, error) {
	bad := errors.New("the value is no URL such as redis://127.0.0.1:6379/0, rediss://user@host or unix:///run/redis/redis.sock")
	u, err := url.Parse(s)
	if err != nil {
		return Address{}, bad
	}
	if _, hasPassword := u.User.Password(); hasPassword {
		return Address{}, errors.New("the password stands in the URL, where other users may see it: put it into a file (--export.redis-password-file), or REDISCLI_AUTH")
	}
	a := Address{User: u.User.Username(), TLS: u.Scheme == "rediss"}
	db := strings.Trim(u.Path, "/")
	query := u.Query()
	switch u.Scheme {
	case "redis", "rediss":
		port := u.Port()
		if port == "" {
			port = "6379"
		}
		if u.Hostname() == "" || len(query) > 0 {
			return Address{}, bad
		}
		a.Network, a.Address = "tcp", net.JoinHostPort(u.Hostname(), port)
	case "unix":
		db = query.Get("db")
		query.Del("db")
		if u.Host != "" || !path.IsAbs(u.Path) || len(query) > 0 {
			return Address{}, bad
		}
		a.Network, a.Address = "unix", u.Path
	default:
		return Address{}, bad
	}
	if db != "" {
		if a.DB, err = strconv.Atoi(db); err != nil || a.DB < 0 || a.DB > dbMax {
			return Address{}, errors.New("the URL's database is no number")
		}
	}
	return a, nil
}

// String is the address without the user.
func (a *Address) String() string {
	scheme := map[bool]string{true: "rediss", false: "redis"}[a.TLS]
	if a.Network == "unix" {
		scheme = "unix"
	}
	return scheme + "://" + a.Address
}

func (a *Address) dial(ctx context.Context, config *tls.Config) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: roundTimeout}
	if !a.TLS {
		return dialer.DialContext(ctx, a.Network, a.Address)
	}
	if config == nil {
		config = new(tls.Config)
	}
	config = config.Clone()
	config.MinVersion = tls.VersionTLS12
	return (&tls.Dialer{NetDialer: dialer, Config: config}).DialContext(ctx, a.Network, a.Address)
}
