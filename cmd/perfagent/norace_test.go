//go:build !race

package main

const boundedExchanges = 1_000_000
