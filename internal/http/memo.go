package http

import (
	"hash/maphash"

	"github.com/perfagent/perfagent/internal/wire"
)

const (
	// memoSlots is how many requests a Memo remembers: as many as a busy host has endpoints. A power of two.
	memoSlots = 1 << 11
	// memoHeadMax is the longest request head worth remembering; at worst 2048 x (512 + ~700) B = 2.4 MiB.
	memoHeadMax = 512
)

// Memo turns records into exchanges as Decoder does, and remembers what the latest request heads meant: clients repeat
// themselves, and a head that is byte for byte one of before is neither parsed nor looked up again. The caller keeps what
// he knows of the exchanges that a head leads to in Known.Value. One goroutine uses it; NewMemo makes one.
type Memo[T any] struct {
	decoder Decoder
	seed    maphash.Seed
	slots   [memoSlots]*Known[T]
	spare   Known[T] // for heads that are not remembered
}

// Known is an exchange, and what is remembered of its request. It is valid until the next call of the Memo.
type Known[T any] struct {
	wire.Exchange
	// Value is the caller's: the zero value when the request is new, else what he left there.
	Value T

	// Of the request's captured bytes only the parts that the exchange shows are kept: the rest may hold credentials. That
	// two heads of a process are the same is told by their length and a hash under a random seed, which nobody outside can
	// aim at. That two different ones agree in its 64 bits is to be expected once in a million years of 500,000 heads a
	// second.
	length  int
	sum     uint64
	text    []byte // those parts; the exchange's slices point into it
	request requestSize
	remote  wire.Addresses // of which the remote end counts
}

// requestSize is what a request's head says of its body.
type requestSize struct {
	headLen int
	framing Framing
}

// NewMemo returns an empty Memo.
func NewMemo[T any]() *Memo[T] { return &Memo[T]{seed: maphash.MakeSeed()} }

// SetUserHeader names the header that tells users apart (nil: none). It is called before the first Exchange.
func (m *Memo[T]) SetUserHeader(u *UserHeader) { m.decoder.SetUserHeader(u) }

// Exchange is Decoder.Exchange, except that of the addresses only the remote end of a client's exchange is right, as its target
// is counted by it; the others may be those of an earlier exchange: each has its own, and few are looked at. It returns nil with
// an error.
func (m *Memo[T]) Exchange(rec *wire.Record) (k *Known[T], final bool, err error) {
	final = rec.Flags.Ended()
	if len(rec.Request) == 0 && rec.Flags&wire.FlagUnreadable != 0 {
		return nil, final, ErrUnreadable
	}
	if k, err = m.find(rec); err != nil {
		return nil, final, err
	}
	k.Witness(rec)
	k.RequestSize = k.request.size(rec)
	if final, err = m.decoder.respond(rec, &k.Exchange, final); err != nil {
		return nil, final, err
	}
	return k, final, nil
}

// find returns the entry of rec's request, parsed now or before.
func (m *Memo[T]) find(rec *wire.Record) (*Known[T], error) {
	if len(rec.Request) > memoHeadMax {
		return &m.spare, m.spare.parse(rec, &m.decoder)
	}
	sum := maphash.Bytes(m.seed, rec.Request)
	slot := &m.slots[(sum^uint64(rec.PID)*0x9e3779b97f4a7c15^uint64(rec.Role))%memoSlots]
	k := *slot
	if k == nil {
		k = new(Known[T])
		*slot = k
	}
	if k.sum == sum && k.length == len(rec.Request) && k.PID == rec.PID && k.Role == rec.Role &&
		(rec.Role == wire.RoleServer || k.remote.SameRemote(&rec.Addresses)) {
		return k, nil
	}
	if err := k.parse(rec, &m.decoder); err != nil {
		k.length = 0 // so that nothing is found here
		return k, err
	}
	if k.length, k.sum = len(rec.Request), sum; m.decoder.request.LineCut {
		k.length = 0 // what it means depends on more than its bytes
	}
	k.text = k.Pack(k.text)
	return k, nil
}

// parse makes the entry one of a request that is new.
func (k *Known[T]) parse(rec *wire.Record, d *Decoder) error {
	var none T
	if err := d.parse(rec); err != nil {
		return err
	}
	k.Value = none
	k.Exchange = wire.Exchange{PID: rec.PID, Role: rec.Role, Local: rec.Local(), Remote: rec.Remote()}
	k.remote = rec.Addresses
	describe(&d.request, &k.Exchange)
	k.request = requestSize{d.request.HeadLen, d.request.Framing}
	return nil
}

// size returns the bytes of the request's body, or -1.
func (r *requestSize) size(rec *wire.Record) int64 {
	if rec.Flags&wire.FlagHeadAll != 0 {
		return 0
	}
	if f := &r.framing; r.headLen > 0 && f.ContentLength < 0 && !f.BadLength && !f.Transfer {
		return 0 // what stands behind it is another request
	}
	return bodySize(rec.RequestBytes, r.headLen, &r.framing)
}
