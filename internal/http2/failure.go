package http2

// Failure says why bytes were not understood. Reason is the label value of perfagent_parse_errors_total.
type Failure struct {
	reason, text string
}

// Error describes the failure.
func (e *Failure) Error() string { return e.text }

// Reason returns the failure as a label value: lower case, words joined by underscores.
func (e *Failure) Reason() string { return e.reason }

// What makes a header block wrong; the peer that gets such a one closes the connection.
var (
	errShort     = &Failure{"hpack", "http2: a header block ends amid a header"}
	errIndex     = &Failure{"hpack", "http2: an index that no table has"}
	errInteger   = &Failure{"hpack", "http2: an integer of more than 32 bits"}
	errHuffman   = &Failure{"hpack", "http2: not a Huffman code"}
	errTableSize = &Failure{"hpack", "http2: a table size update that is not allowed"}
)

// Why a direction is not followed, until it is found again.
var (
	// ErrGap is that of bytes that nobody captured where a frame's head may have been.
	ErrGap = &Failure{"gap", "http2: a frame's head was not captured"}
	// ErrFrame is that of nine bytes that are no frame's head where one must be.
	ErrFrame = &Failure{"frame", "http2: not a frame"}
	// ErrPreface is that of a connection that does not begin as one of HTTP/2 does.
	ErrPreface = &Failure{"preface", "http2: not the beginning of a connection"}
)

// What makes a single message incomplete, or strange.
var (
	// ErrBlockCut is that of a header block of which not all was captured, or that is longer than blockBytesMax.
	ErrBlockCut = &Failure{"headers_cut", "http2: a header block was not captured to its end"}
	// ErrUnknownIndex is that of a request or response some of whose headers were named before the decoder joined.
	ErrUnknownIndex = &Failure{"index_unknown", "http2: a header refers to what was sent before the connection was joined"}
	// ErrStreamID is that of a request on a stream that cannot begin there: used before, or not the client's.
	ErrStreamID = &Failure{"stream_id", "http2: a stream that cannot begin"}
	// ErrHeaders is that of a head without what it must have.
	ErrHeaders = &Failure{"headers", "http2: a head without its pseudo-headers"}
)
