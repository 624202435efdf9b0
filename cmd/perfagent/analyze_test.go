package main

import (
	"bytes"
	"strings"
	"testing"
)

// One line of output for each request: learned while reading, without the query, and without routes for what was refused.
func TestAnalyzeRoutes(t *testing.T) {
	in := strings.Repeat("GET /users/17?fields=name 200\nGET /users/me 200\nPOST /wp-login.php 404\n", 3)
	var out, warn bytes.Buffer
	if err := analyzeRoutes(strings.NewReader(in), &out, &warn); err != nil {
		t.Fatal(err)
	}
	if want := strings.Repeat("/users/{id}\n/users/me\n/*\n", 3); out.String() != want || warn.Len() > 0 {
		t.Errorf("got %s, %s", out.String(), warn.String())
	}
}

// What access logs have beside requests is skipped and counted, and makes no route: no request at all, a missing path, a status
// in its place, TLS, and lines that are too long.
func TestAnalyzeRoutesSkips(t *testing.T) {
	in := "GET /a\n\"\"\n-\n\nfoo\n-\" 400 0\n\x16\x03\x01 /x 400\nGET\nGET  \nGET 200\nGET ?x=1\nGET b\nGET /" + strings.Repeat("a", analyzeLineMax) +
		"\nOPTIONS * 200\r\nGET /users/7 200"
	var out, warn bytes.Buffer
	if err := analyzeRoutes(strings.NewReader(in), &out, &warn); err != nil {
		t.Fatal(err)
	}
	if want := "/a\n*\n/users/{id}\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	if got := warn.String(); !strings.Contains(got, "skipped 12 lines") || !strings.Contains(got, "line 2\n") {
		t.Errorf("warned %q", got)
	}
}
