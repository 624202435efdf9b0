package main

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// version is a semantic version without its v. As a Debian or RPM version a prerelease sorts before, and what follows a plus
// behind the number, as semantic versions and git describe mean it.
type version string

var (
	describedRelease = regexp.MustCompile(`^v?(\d+\.\d+\.\d+(?:-[0-9A-Za-z][0-9A-Za-z.]*)?)(?:-(\d+)-g([0-9a-f]+))?$`)
	describedCommit  = regexp.MustCompile(`^[0-9a-f]{7,40}$`)
)

// parseVersion takes a version, or what git describe says: v1.2.3, v1.2.3-4-gHASH (four commits after it), or a hash where there is
// no tag yet, which sorts before every release, by its time.
func parseVersion(described string, commit time.Time) (version, error) {
	rest, isDirty := strings.CutSuffix(described, "-dirty")
	dirty := map[bool]string{true: "dirty"}[isDirty]
	if describedCommit.MatchString(rest) {
		return version(fmt.Sprintf("0.0.0-git%s.g%s", commit.Format("20060102150405"), rest) + metadata(dirty)), nil
	}
	m := describedRelease.FindStringSubmatch(rest)
	if m == nil || strings.HasSuffix(rest, "-dirty") {
		return "", fmt.Errorf("%q is neither a version such as 1.2.3 nor what git describes", described)
	}
	if m[2] == "" {
		return version(m[1] + metadata(dirty)), nil
	}
	return version(m[1] + metadata(m[2], "g"+m[3], dirty)), nil
}

// metadata joins what stands behind the plus.
func metadata(parts ...string) string {
	var all []string
	for _, part := range parts {
		if part != "" {
			all = append(all, part)
		}
	}
	if len(all) == 0 {
		return ""
	}
	return "+" + strings.Join(all, ".")
}

// tag is the version as an image's tag, which has no plus.
func (v version) tag() string { return strings.ReplaceAll(string(v), "+", "_") }
