package main

import (
	"bytes"
	"strings"
	"testing"
)

// One line of output for each request: learned while reading, without the query, and without routes for what was refused.
func TestAnalyzeRoutes(t *testing.T) {
	in := strings.Repeat("GET /users/17?fields=name 200\nGET /users/me 200\nPOST /wp-login.php 404\n", 3)
	var out bytes.Buffer
	if err := analyzeRoutes(strings.NewReader(in), &out); err != nil {
		t.Fatal(err)
	}
	if want := strings.Repeat("/users/{id}\n/users/me\n/*\n", 3); out.String() != want {
		t.Errorf("got %s", out.String())
	}
	if err := analyzeRoutes(strings.NewReader("GET /a\nGET\n"), &out); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a line without a path: %v", err)
	}
}
