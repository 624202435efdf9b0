// Package spelling finds the word that a wrong one was probably meant to be, for messages about what somebody wrote.
package spelling

import "iter"

// Nearest returns the word that differs from a wrong one by the fewest inserted, deleted, replaced and exchanged bytes, but by no
// more than so many slips; "" where there is none. Of several it is the first in order.
func Nearest(wrong string, words iter.Seq[string], slips int) string {
	best, distance := "", slips+1
	for known := range words {
		if d := between(wrong, known); d < distance || d == distance && best != "" && known < best {
			best, distance = known, d
		}
	}
	return best
}

// between is the number of slips between two words: the restricted Damerau-Levenshtein distance.
func between(a, b string) int {
	before, row, next := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		next[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next[j+1] = min(row[j]+cost, row[j+1]+1, next[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row, next = row, next, before
	}
	return row[len(b)]
}
