//go:build race

package analytics

func init() { underRace = true }
