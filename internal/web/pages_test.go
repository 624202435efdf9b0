package web

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

// fetch asks the handler as it stands behind the server's headers, which says what a browser gets.
func fetch(t *testing.T, s *Server, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	return w
}

// pageAssets are the paths that the page names.
func pageAssets(page string) []string {
	return regexp.MustCompile(`/assets/[a-z0-9.-]+`).FindAllString(page, -1)
}

// The page names its script, style and icon; each is there with its type, is kept for good, and is the same packed and unpacked,
// under tags of their own that a browser need not fetch again.
func TestPages(t *testing.T) {
	s := NewServer(ServerOptions{})
	page := fetch(t, s, "/")
	assets := pageAssets(page.Body.String())
	if len(assets) != 3 || page.Header().Get("Cache-Control") != "no-cache" {
		t.Fatalf("%v %v", assets, page.Header())
	}
	types := map[string]string{"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml"}
	for _, path := range assets {
		plain, zipped := fetch(t, s, path), fetch(t, s, path, "Accept-Encoding", "gzip, br")
		kind := path[strings.LastIndex(path, ".")+1:]
		if plain.Code != 200 || plain.Header().Get("Content-Type") != types[kind] || plain.Header().Get("Content-Encoding") != "" ||
			!strings.Contains(plain.Header().Get("Cache-Control"), "immutable") {
			t.Errorf("%s: %d %v", path, plain.Code, plain.Header())
		}
		z, err := gzip.NewReader(zipped.Body)
		if err != nil || zipped.Header().Get("Content-Encoding") != "gzip" {
			t.Fatalf("%s: %v %v", path, err, zipped.Header())
		}
		if unzipped, err := io.ReadAll(z); err != nil || string(unzipped) != plain.Body.String() || len(unzipped) == 0 {
			t.Errorf("%s: %v, %d bytes unpacked, %d plain", path, err, len(unzipped), plain.Body.Len())
		}
		if plain.Header().Get("ETag") == zipped.Header().Get("ETag") {
			t.Errorf("%s: one tag for two forms", path)
		}
	}
	for _, encoding := range []string{"", "gzip"} {
		tag := fetch(t, s, "/", "Accept-Encoding", encoding).Header().Get("ETag")
		if again := fetch(t, s, "/", "Accept-Encoding", encoding, "If-None-Match", `"x", W/`+tag); again.Code != http.StatusNotModified || again.Body.Len() > 0 {
			t.Errorf("%q: %d", encoding, again.Code)
		}
		if other := fetch(t, s, "/", "Accept-Encoding", encoding, "If-None-Match", `"x"`); other.Code != http.StatusOK {
			t.Errorf("%q: %d", encoding, other.Code)
		}
	}
	if w := fetch(t, s, "/assets/app-000000000000.js"); w.Code != http.StatusNotFound {
		t.Errorf("%d", w.Code)
	}
}

// What is served fits the policy: nothing stands in the page that it forbids, nothing leads to another host, and all of it is small. The
// names of standards, which nobody asks, are the only addresses.
func TestPagesSelfContained(t *testing.T) {
	const bytesMax = 150 << 10
	s, sum := NewServer(ServerOptions{}), 0
	page := fetch(t, s, "/").Body.String()
	for _, forbidden := range []string{"<style", " style=", " onload=", "<script>"} {
		if strings.Contains(page, forbidden) {
			t.Errorf("%q in the page", forbidden)
		}
	}
	for _, path := range append(pageAssets(page), "/", "/assets/licenses.txt") {
		sum += fetch(t, s, path, "Accept-Encoding", "gzip").Body.Len()
		if path == "/assets/licenses.txt" {
			continue
		}
		for _, address := range regexp.MustCompile(`(https?:)?//[a-z0-9-]+\.[^"'\x60\s)]+`).FindAllString(fetch(t, s, path).Body.String(), -1) {
			if !strings.Contains(address, "www.w3.org/") {
				t.Errorf("%s has the address %s", path, address)
			}
		}
	}
	if sum > bytesMax || sum < 10<<10 {
		t.Errorf("%d bytes packed", sum)
	}
}
