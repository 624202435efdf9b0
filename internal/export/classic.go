package export

import (
	"fmt"

	"github.com/perfagent/perfagent/internal/analytics"
)

// Classic says which histograms of exchanges have classic buckets beside the native form. A native histogram is one series
// whatever is in it; each classic bucket is a series of its own, two dozen to a histogram.
type Classic uint8

const (
	ClassicDurations Classic = iota // those of whole exchanges, of servers and of clients
	ClassicAll                      // those of phases and sizes as well
	ClassicNone
	classics
)

// ClassicNames are what String returns and ParseClassic takes.
var ClassicNames = [classics]string{"durations", "all", "none"}

func (c Classic) String() string { return ClassicNames[c] }

// ParseClassic returns the value of that name, or an error that names those that there are.
func ParseClassic(name string) (Classic, error) {
	for c, known := range ClassicNames {
		if known == name {
			return Classic(c), nil
		}
	}
	return 0, fmt.Errorf("%q is none of %v", name, ClassicNames)
}

// has tells whether a family has classic buckets.
func (c Classic) has(f *analytics.Family) bool {
	return c == ClassicAll || c == ClassicDurations && f.Whole
}
