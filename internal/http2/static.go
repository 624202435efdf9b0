package http2

// field names a header that is read. What is no such header is fieldOther, also in the tables: of it only the size is kept.
type field uint8

const (
	fieldOther   field = iota
	fieldUnknown       // its name is that of an index from before the decoder joined
	fieldMethod
	fieldPath
	fieldAuthority
	fieldScheme
	fieldStatus
	fieldProtocol // of an extended CONNECT (RFC 8441)
	fieldHost
	fieldUserAgent
	fieldRequestID
	fieldTraceParent
	fieldXForwardedFor
	fieldForwarded
	fieldContentType
	fieldContentLength
	fieldGRPCStatus
	fieldGRPCMessage
	fieldGRPCEncoding
	fieldUser // the header that tells users apart, where one is named
	fields    // how many there are
)

// pseudo tells whether a field's name begins with a colon, of those that are read.
func (f field) pseudo() bool { return f >= fieldMethod && f <= fieldProtocol }

// fieldOf returns which field a name is. Names of HTTP/2 are lower case (RFC 9113, section 8.2.1).
func fieldOf(name []byte) field {
	switch string(name) {
	case ":method":
		return fieldMethod
	case ":path":
		return fieldPath
	case ":authority":
		return fieldAuthority
	case ":scheme":
		return fieldScheme
	case ":status":
		return fieldStatus
	case ":protocol":
		return fieldProtocol
	case "host":
		return fieldHost
	case "user-agent":
		return fieldUserAgent
	case "x-request-id":
		return fieldRequestID
	case "traceparent":
		return fieldTraceParent
	case "x-forwarded-for":
		return fieldXForwardedFor
	case "forwarded":
		return fieldForwarded
	case "content-type":
		return fieldContentType
	case "content-length":
		return fieldContentLength
	case "grpc-status":
		return fieldGRPCStatus
	case "grpc-message":
		return fieldGRPCMessage
	case "grpc-encoding":
		return fieldGRPCEncoding
	}
	return fieldOther
}

// staticEntry is an entry of the static table.
type staticEntry struct {
	field field
	name  string
	value []byte
}

// staticTable is RFC 7541, appendix A; the first entry has index 1.
var staticTable = func() (t [62]staticEntry) {
	for i, e := range [...][2]string{
		{":authority", ""}, {":method", "GET"}, {":method", "POST"}, {":path", "/"}, {":path", "/index.html"}, {":scheme", "http"},
		{":scheme", "https"}, {":status", "200"}, {":status", "204"}, {":status", "206"}, {":status", "304"}, {":status", "400"},
		{":status", "404"}, {":status", "500"}, {"accept-charset", ""}, {"accept-encoding", "gzip, deflate"}, {"accept-language", ""},
		{"accept-ranges", ""}, {"accept", ""}, {"access-control-allow-origin", ""}, {"age", ""}, {"allow", ""}, {"authorization", ""},
		{"cache-control", ""}, {"content-disposition", ""}, {"content-encoding", ""}, {"content-language", ""}, {"content-length", ""},
		{"content-location", ""}, {"content-range", ""}, {"content-type", ""}, {"cookie", ""}, {"date", ""}, {"etag", ""}, {"expect", ""},
		{"expires", ""}, {"from", ""}, {"host", ""}, {"if-match", ""}, {"if-modified-since", ""}, {"if-none-match", ""}, {"if-range", ""},
		{"if-unmodified-since", ""}, {"last-modified", ""}, {"link", ""}, {"location", ""}, {"max-forwards", ""}, {"proxy-authenticate", ""},
		{"proxy-authorization", ""}, {"range", ""}, {"referer", ""}, {"refresh", ""}, {"retry-after", ""}, {"server", ""}, {"set-cookie", ""},
		{"strict-transport-security", ""}, {"transfer-encoding", ""}, {"user-agent", ""}, {"vary", ""}, {"via", ""}, {"www-authenticate", ""},
	} {
		t[i+1] = staticEntry{fieldOf([]byte(e[0])), e[0], []byte(e[1])}
	}
	return t
}()
