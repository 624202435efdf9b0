package http2

import "encoding/binary"

// huffmanBits are the lengths of the codes of RFC 7541, appendix B. The code is canonical: within a length codes ascend with
// their symbols, and a longer code begins where the shorter ones end, so nothing but the lengths is needed. The symbol behind
// the bytes, end of string, has thirty ones.
var huffmanBits = [257]uint8{
	13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
	6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
	13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
	15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
	20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
	22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
	26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
	20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
	30,
}

const (
	huffmanEnd     = 256
	huffmanLongest = 30
	// huffmanPeek is how many bits are looked up at once: two letters of the usual kinds, in a table of 8 KiB.
	huffmanPeek = 11
)

// huffmanStep is what the next huffmanPeek bits begin with: no, one or two whole symbols.
type huffmanStep struct {
	first, second uint8
	bits          uint8 // of both: 0 where the first symbol is longer than the peek
	firstBits     uint8 // of the first, where there are two; else 0
}

var (
	huffmanSteps [1 << huffmanPeek]huffmanStep
	// Of the codes of each length: the first one, aligned to the upper end of 32 bits; where its symbol is in huffmanSymbols;
	// and the first code, aligned too, that is longer.
	huffmanFirst, huffmanAfter [huffmanLongest + 1]uint64
	huffmanAt                  [huffmanLongest + 1]int
	huffmanSymbols             []uint16
	huffmanCodes               [257]uint32
)

func init() {
	code := uint64(0)
	for n := 1; n <= huffmanLongest; n++ {
		code <<= 1
		huffmanFirst[n], huffmanAt[n] = code<<(32-n), len(huffmanSymbols)
		for symbol, bits := range huffmanBits {
			if int(bits) == n {
				huffmanSymbols = append(huffmanSymbols, uint16(symbol))
				huffmanCodes[symbol] = uint32(code)
				code++
			}
		}
		huffmanAfter[n] = code << (32 - n)
	}
	for i := range huffmanSteps {
		word := uint64(i) << (64 - huffmanPeek)
		s := &huffmanSteps[i]
		symbol, bits := huffmanLong(word)
		if bits > huffmanPeek {
			continue
		}
		s.first, s.bits = uint8(symbol), uint8(bits)
		if next, more := huffmanLong(word << bits); bits+more <= huffmanPeek {
			s.second, s.firstBits, s.bits = uint8(next), uint8(bits), uint8(bits+more)
		}
	}
}

// huffmanLong returns the symbol at the upper end of a word, and the length of its code.
func huffmanLong(word uint64) (symbol, bits int) {
	top := word >> 32
	for n := 5; n < huffmanLongest; n++ {
		if top < huffmanAfter[n] {
			return int(huffmanSymbols[huffmanAt[n]+int((top-huffmanFirst[n])>>(32-n))]), n
		}
	}
	return int(huffmanSymbols[huffmanAt[huffmanLongest]+int((top-huffmanFirst[huffmanLongest])>>(32-huffmanLongest))]), huffmanLongest
}

// huffmanDecode appends what b stands for to dst. It returns false, and what was decoded so far, where b is no Huffman code of
// RFC 7541, section 5.2: padded with anything but the beginning of the end of string, or by eight bits and more.
func huffmanDecode(dst, b []byte) ([]byte, bool) {
	var word uint64 // the next bits, at its upper end
	have := 0       // how many of them are b's
	for {
		switch {
		case len(b) >= 8 && have <= 56:
			word |= binary.BigEndian.Uint64(b) >> have
			n := (64 - have) >> 3
			b, have = b[n:], have+n<<3
		default:
			for have <= 56 && len(b) > 0 {
				word |= uint64(b[0]) << (56 - have)
				b, have = b[1:], have+8
			}
		}
		if have < huffmanLongest { // b is at its end
			return huffmanRest(dst, word, have)
		}
		for have >= huffmanLongest {
			s := huffmanSteps[word>>(64-huffmanPeek)]
			if s.bits == 0 {
				symbol, bits := huffmanLong(word)
				if symbol == huffmanEnd {
					return dst, false
				}
				dst = append(dst, byte(symbol))
				word, have = word<<bits, have-bits
				continue
			}
			if s.firstBits != 0 {
				dst = append(dst, s.first, s.second)
			} else {
				dst = append(dst, s.first)
			}
			word, have = word<<s.bits, have-int(s.bits)
		}
	}
}

// huffmanRest decodes the last bits, of which there are fewer than the longest code has.
func huffmanRest(dst []byte, word uint64, have int) ([]byte, bool) {
	for have > 0 {
		symbol, bits := huffmanLong(word | (1<<(64-have) - 1)) // as if the end of string followed
		if bits > have {
			break
		}
		dst = append(dst, byte(symbol))
		word, have = word<<bits, have-bits
	}
	return dst, have < 8 && word>>(64-have) == 1<<have-1
}
