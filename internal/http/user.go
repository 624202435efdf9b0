package http

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"strings"

	"github.com/perfagent/perfagent/internal/wire"
)

// userHeaderBytesMax bounds the name of the header that tells users apart; names in use are far shorter.
const userHeaderBytesMax = 64

// UserHeader is the one header whose value tells users apart, and the key that hides it. Users can be told apart and
// followed by the hash, while the value stays in the head that it came in: the hash is HMAC-SHA256 under 256 random bits,
// made for this UserHeader and kept in memory only, cut to 64 bits. Without the key nobody can try values out (user names
// and card numbers are quickly listed), and hashes of before a restart, or of another host, do not join with these.
// HMAC is slower than a keyed SipHash (some 400 ns), but the standard library has it, and it is paid once for each head
// that is new, only where a header is named. One goroutine uses it.
type UserHeader struct {
	name string
	mac  hash.Hash
	sum  [sha256.Size]byte
}

// NewUserHeader returns the header of this name, any case; nil without a name, which names none. The name must have
// passed CheckHeaderName.
func NewUserHeader(name string) *UserHeader {
	if name == "" {
		return nil
	}
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never fails
	return newUserHeader(name, key)
}

func newUserHeader(name string, key []byte) *UserHeader {
	return &UserHeader{name: strings.ToLower(name), mac: hmac.New(sha256.New, key)}
}

// CheckHeaderName says what is wrong with the name of a header (RFC 9110, section 5.1); "" is fine.
func CheckHeaderName(name string) error {
	if wire.TokenLen([]byte(name)) != len(name) || len(name) > userHeaderBytesMax {
		return fmt.Errorf("%q is not the name of a header, of at most %d characters", name, userHeaderBytesMax)
	}
	return nil
}

// read takes the value where the line holds the header; the first that is not empty counts.
func (u *UserHeader) read(line []byte, r *Request) {
	r.userLine = false
	if n := len(u.name); len(line) > n && line[n] == ':' && bytes.EqualFold(line[:n], []byte(u.name)) && len(r.User) == 0 {
		r.User = trimOWS(line[n+1:])
		r.userLine = true
	}
}

// fold gives a value up that goes on in another line: its beginning may be that of several users.
func (u *UserHeader) fold(r *Request) {
	if r.userLine {
		r.User = nil
	}
}

// hash returns what stands for a value, never 0; 0 without a header or a value.
func (u *UserHeader) hash(value []byte) uint64 {
	if u == nil || len(value) == 0 {
		return 0
	}
	u.mac.Reset()
	_, _ = u.mac.Write(value) // a hash takes everything
	return max(binary.BigEndian.Uint64(u.mac.Sum(u.sum[:0])), 1)
}
