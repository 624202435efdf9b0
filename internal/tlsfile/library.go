package tlsfile

import (
	"bytes"
	"debug/elf"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// signature is a function that handles plaintext, with the numbers of its parameters from 0.
type signature struct {
	name                    string
	role                    Role
	session, buffer, length int
	count                   int // the parameter that points to where the number of bytes is written; -1: it is the result
}

// signatures are the functions of each kind. Those of OpenSSL and BoringSSL are the same where both have them.
var signatures = map[Kind][]signature{
	OpenSSL: {
		{"SSL_read", Read, 0, 1, 2, -1},
		{"SSL_write", Write, 0, 1, 2, -1},
		{"SSL_read_ex", Read, 0, 1, 2, 3},
		{"SSL_write_ex", Write, 0, 1, 2, 3},
	},
	BoringSSL: {
		{"SSL_read", Read, 0, 1, 2, -1},
		{"SSL_write", Write, 0, 1, 2, -1},
	},
	GnuTLS: {
		{"gnutls_record_recv", Read, 0, 1, 2, -1},
		{"gnutls_record_send", Write, 0, 1, 2, -1},
	},
}

// Symbols that tell which library has the functions.
const (
	inOpenSSL   = "OPENSSL_init_ssl"           // 1.1 and later, and BoringSSL
	inBoringSSL = "SSL_CTX_set_grease_enabled" // nowhere else
)

// unsupported are symbols of libraries that are recognised and left alone.
var unsupported = []struct {
	symbol string
	kind   Kind
}{
	{"SSL_ImportFD", NSS}, {"mbedtls_ssl_read", MbedTLS}, {"wolfSSL_read", WolfSSL},
}

// words are what compilers leave of a library's sources in a program that includes it, names of files in what reports errors: they stay when symbols are
// stripped. The part of the library that knows TLS has words of its own: libcrypto is no TLS.
var words = []struct {
	word string
	kind Kind
}{
	{"ssl/statem/statem.c\x00", OpenSSL}, {"ssl/ssl_lib.cc\x00", BoringSSL}, {"/rustls-0.", Rustls}, {"/library/ssl_tls.c\x00", MbedTLS},
}

// A banner tells the version in a program that includes a library: words to look for, and what stands there.
type banner struct {
	words [][]byte
	text  *regexp.Regexp
}

var banners = map[Kind]banner{
	OpenSSL: {[][]byte{[]byte("OpenSSL "), []byte("LibreSSL ")}, regexp.MustCompile(`^(?:Open|Libre)SSL (\d\.\d\.\d+[a-z]{0,2}(?:-[a-z0-9]{1,10})?(?:\+quic)?) +\d{1,2} [A-Z][a-z]{2} 20\d\d`)},
	Rustls:  {[][]byte{[]byte("/rustls-0.")}, regexp.MustCompile(`^/rustls-(0\.\d{1,3}\.\d{1,3})/`)},
}

// find returns the version in a part of the file, "" for none.
func (b banner) find(part []byte) string {
	for _, word := range b.words {
		for rest := part; ; rest = rest[len(word):] {
			i := bytes.Index(rest, word)
			if i < 0 {
				break
			}
			rest = rest[i:]
			if m := b.text.FindSubmatch(rest[:min(len(rest), bannerBytes)]); m != nil {
				return string(m[1])
			}
		}
	}
	return ""
}

// bannerBytes is the length of the longest banner, and of the longest word.
const bannerBytes = 64

// sharedVersion finds the version in the name of a shared library; packages of other languages put a hash into it.
var sharedVersion = regexp.MustCompile(`^lib(?:ssl|gnutls)(?:-[0-9a-f]{4,16})?\.so\.([0-9.]{1,16})$`)

// recognise fills in what a file is that is not Go's.
func (im *image) recognise(file *File) error {
	found, err := im.symbols(wantedSymbols())
	if err != nil {
		return err
	}
	if kind := kindOf(found); kind != "" {
		file.Kind = kind
		if file.Version, err = im.version(kind); err != nil {
			return err
		}
		im.addFunctions(file, signatures[kind], found)
		return nil
	}
	for _, u := range unsupported {
		if _, ok := found[u.symbol]; ok {
			file.Kind, file.Reason = u.kind, fmt.Sprintf("TLS of %s, which is not decoded", u.kind)
			return nil
		}
	}
	return im.recogniseStripped(file)
}

// wantedSymbols are all names that tell something.
func wantedSymbols() []string {
	names := []string{inOpenSSL, inBoringSSL}
	for _, list := range signatures {
		for _, s := range list {
			if !slices.Contains(names, s.name) {
				names = append(names, s.name)
			}
		}
	}
	for _, u := range unsupported {
		names = append(names, u.symbol)
	}
	return names
}

// kindOf decides by the symbols that a file defines. Others than a TLS library may define a few of the same names, a wrapper for instance: OpenSSL is only
// what has its beginning as well.
func kindOf(found map[string]symbol) Kind {
	has := func(name string) bool { _, ok := found[name]; return ok }
	switch {
	case has("SSL_read") && has("SSL_write") && has(inBoringSSL):
		return BoringSSL
	case has("SSL_read") && has("SSL_write") && has(inOpenSSL):
		return OpenSSL
	case has("gnutls_record_recv") && has("gnutls_record_send"):
		return GnuTLS
	}
	return ""
}

// version is that of the library's name, or of what a program that includes it says.
func (im *image) version(kind Kind) (string, error) {
	soname, _ := im.dynamic()
	if m := sharedVersion.FindStringSubmatch(soname); m != nil {
		return m[1], nil
	}
	banner, ok := banners[kind]
	if !ok {
		return "", nil
	}
	version := ""
	err := im.constants(func(part []byte) bool {
		version = banner.find(part)
		return version == ""
	})
	return version, err
}

// recogniseStripped looks for words of libraries in programs without their symbols.
func (im *image) recogniseStripped(file *File) error {
	err := im.constants(func(part []byte) bool {
		for _, w := range words {
			if bytes.Contains(part, []byte(w.word)) {
				file.Kind = w.kind
			}
		}
		return file.Kind == ""
	})
	if err != nil || file.Kind == "" {
		return err
	}
	file.Version, err = im.version(file.Kind)
	switch file.Kind {
	case Rustls:
		file.Reason = "TLS of rustls, whose functions are compiled into those of the program: there is no place that all plaintext passes"
	case MbedTLS:
		file.Reason = "TLS of Mbed TLS, which is not decoded"
	default:
		file.Reason = fmt.Sprintf("%s is part of this file, whose symbols were stripped: where its functions are is not known", file.Kind)
	}
	return err
}

// constants visits the read-only bytes of a file, where strings are, up to a limit.
func (im *image) constants(visit func(part []byte) bool) error {
	left := uint64(rodataMax)
	more := true
	for _, s := range im.sections {
		if !more || s.kind != elf.SHT_PROGBITS || s.flags&elf.SHF_ALLOC == 0 || s.flags&(elf.SHF_WRITE|elf.SHF_EXECINSTR) != 0 || !strings.HasPrefix(s.name, ".rodata") {
			continue
		}
		n := min(s.size, left)
		left -= n
		err := im.src.chunks(s.offset, n, bannerBytes, func(part []byte, _ uint64) bool {
			more = visit(part)
			return more
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// addFunctions finds the places of the functions that there are.
func (im *image) addFunctions(file *File, list []signature, found map[string]symbol) {
	for _, sig := range list {
		sym, ok := found[sig.name]
		if !ok {
			continue
		}
		offset, ok := im.place(sym.address, 1, elf.PF_X)
		if !ok {
			continue
		}
		f := Function{Name: sig.name, Role: sig.role, Address: sym.address, Offset: offset, Size: sym.size}
		if f.Sites = im.sites(sig, sym); len(f.Sites) == 0 {
			file.Reason = fmt.Sprintf("%s of %s has a form in which no place for a probe is found", sig.name, file.Kind)
			continue
		}
		file.Functions = append(file.Functions, f)
	}
	if len(file.Functions) == 0 && file.Reason == "" {
		file.Reason = fmt.Sprintf("the functions of %s are not in the file's executable part", file.Kind)
	}
}
