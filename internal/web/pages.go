package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"net/http"
	"path"
	"strconv"
	"strings"

	"github.com/perfagent/perfagent/internal/export"
)

// The dashboard's files, as make dashboard builds them from dashboard/src: packed, as nearly every browser takes them, so that
// neither the program nor its memory has them twice.
//
//go:embed dashboard/dist
var built embed.FS

const (
	builtAt   = "dashboard/dist"
	pageFile  = "index.html"
	assetsAt  = "/assets/"
	assetRule = "max-age=31536000, immutable" // a year; what changes has another name
	pageRule  = "no-cache"                    // kept, and asked for again each time
)

// assetTypes do not depend on what the host takes for a type.
var assetTypes = map[string]string{".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
	".svg": "image/svg+xml", ".txt": "text/plain; charset=utf-8"}

// asset is one file of the dashboard.
type asset struct {
	name, mediaType, tag, caching string
	zipped                        []byte
}

// pageRoutes serve the dashboard: its page, and the files that the page names.
func pageRoutes() []Route {
	all := readAssets()
	page := all[pageFile]
	return []Route{
		{Path: "/", Summary: "The dashboard.", MediaType: "text/html", Handler: page},
		{Path: assetsAt + "{name}", Summary: "A file of the dashboard.", MediaType: "text/javascript", Errors: []int{http.StatusNotFound},
			Parameters: []Parameter{{Name: "name", Description: "the file's name, as the page has it", InPath: true}},
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if a := all[r.PathValue("name")]; a != nil && a != page {
					a.ServeHTTP(w, r)
					return
				}
				problem(w, http.StatusNotFound, "the dashboard has no such file; reload its page")
			})},
	}
}

// readAssets returns the files by name. What is embedded can be read.
func readAssets() map[string]*asset {
	entries, err := built.ReadDir(builtAt)
	if err != nil {
		panic(err)
	}
	all := make(map[string]*asset, len(entries))
	for _, e := range entries {
		body, err := built.ReadFile(path.Join(builtAt, e.Name()))
		if err != nil {
			panic(err)
		}
		name, ok := strings.CutSuffix(e.Name(), ".gz")
		if !ok {
			panic(fmt.Sprintf("web: %s is not packed", e.Name()))
		}
		sum := sha256.Sum256(body)
		a := &asset{name: name, mediaType: assetTypes[path.Ext(name)], tag: hex.EncodeToString(sum[:8]), caching: assetRule, zipped: body}
		if name == pageFile {
			a.caching = pageRule
		}
		all[name] = a
	}
	return all
}

// ServeHTTP implements http.Handler.
func (a *asset) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	zips := export.AcceptsGzip(r.Header)
	tag := `"` + a.tag + `"`
	if zips {
		tag = `"` + a.tag + `-gzip"` // other bytes
	}
	h := w.Header()
	h.Set("ETag", tag)
	h.Set("Cache-Control", a.caching)
	h.Set("Vary", "Accept-Encoding")
	if matches(r.Header.Get("If-None-Match"), tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", a.mediaType)
	h.Set("Content-Length", strconv.Itoa(unzippedBytes(a.zipped)))
	if zips {
		h.Set("Content-Encoding", "gzip")
		h.Set("Content-Length", strconv.Itoa(len(a.zipped)))
	}
	switch {
	case r.Method == http.MethodHead:
	case zips:
		_, _ = w.Write(a.zipped) // the client may be gone, as below
	default:
		_ = writeUnzipped(w, a.zipped)
	}
}

// matches tells whether a list of tags has one of them (RFC 9110, 13.1.2).
func matches(list, tag string) bool {
	for one := range strings.SplitSeq(list, ",") {
		if one = strings.TrimSpace(one); one == "*" || strings.TrimPrefix(one, "W/") == tag {
			return true
		}
	}
	return false
}
