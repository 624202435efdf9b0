//go:build race

package main

// boundedExchanges is fewer than a million where each takes ten times as long.
const boundedExchanges = 100_000
