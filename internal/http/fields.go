package http

// What headers mean is the same in every version of HTTP (RFC 9110); these are for the decoders of the others.

// MethodOther is the verb of methods that are none of the known ones.
const MethodOther = methodOther

// MethodName returns the method as one of the conventions' known names, else MethodOther. Methods are case-sensitive.
func MethodName(b []byte) string { return methodName(b) }

// WithoutQuery cuts a request target before its query or fragment.
func WithoutQuery(target []byte) []byte { return withoutQuery(target) }

// WithoutUser cuts user information, which may hold a password, off an authority.
func WithoutUser(authority []byte) []byte { return withoutUser(authority) }

// FirstElement returns the first element of a comma-separated list that is not empty.
func FirstElement(list []byte) []byte { return firstElement(list) }

// ForwardedFor returns for= of the first element of a Forwarded header, as sent.
func ForwardedFor(v []byte) []byte { return forwardedFor(v) }

// Decimal parses digits, nothing else, into a number of at most 63 bits.
func Decimal(b []byte) (int64, bool) { return decimal(b) }

// Name returns the header's name in lower case; "" of none.
func (u *UserHeader) Name() string {
	if u == nil {
		return ""
	}
	return u.name
}

// Hash returns what stands for a value, never 0; 0 without a header or a value.
func (u *UserHeader) Hash(value []byte) uint64 { return u.hash(value) }

// SetUser names the header that tells users apart (nil: none) for the heads that are parsed into r.
func (r *Request) SetUser(u *UserHeader) { r.user = u }
