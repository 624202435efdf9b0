package cache

import (
	"fmt"
	"math"
	"math/rand"
	"slices"
	"strings"
	"testing"
)

// requestsOf makes a sample of keys that are single letters, or words.
func requestsOf(limits Limits, keys ...string) *Requests {
	r := NewRequests(limits)
	for _, k := range keys {
		r.Add([]byte(k))
	}
	return r
}

// Hits of short sequences, counted by hand: what each policy keeps of two or three places.
func TestHitRatios(t *testing.T) {
	for _, c := range []struct {
		policy, requests string
		size, hits       int
	}{
		{"lru", "abcabcabc", 2, 0}, // a loop that does not fit
		{"lru", "abcabcabc", 3, 6},
		{"lru", "aabacada", 2, 4},  // a is always the one used last but one
		{"fifo", "aabacada", 2, 3}, // and the oldest, when c comes, so that it is fetched again
		{"lfu", "aaabcbcbc", 2, 2}, // a stays for ever, b and c replace each other
		{"lfu", "aabbcdcdab", 3, 4},
		{"arc", "aabbcdefab", 3, 4},      // a and b were used twice: the scan passes them by
		{"sieve", "aabbcdab", 3, 4},      // the hand passes a and b by, and takes c
		{"lru", "aabbcdefab", 3, 2},      // and they are gone
		{"wtinylfu", "aabbcdefab", 3, 4}, // used more often than what would replace them
	} {
		ratios, err := requestsOf(Limits{}, strings.Split(c.requests, "")...).HitRatios(c.policy, []int{c.size})
		if got := ratios[0] * float64(len(c.requests)); err != nil || math.Abs(got-float64(c.hits)) > 1e-9 {
			t.Errorf("%s of %d on %s: %.2f hits, %v, want %d", c.policy, c.size, c.requests, got, err, c.hits)
		}
	}
	if _, err := requestsOf(Limits{}, "a").HitRatios("clock", []int{1}); err == nil {
		t.Error("a policy that is none has hits")
	}
}

// A cache in which everything fits misses each key once, with every policy, and an empty sample has no hits.
func TestEverythingFits(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	var keys []string
	for range 5000 {
		keys = append(keys, fmt.Sprint(r.Intn(200)))
	}
	requests := requestsOf(Limits{}, keys...)
	for _, p := range Policies {
		ratios, _ := requests.HitRatios(p, []int{100_000})
		if want := 1 - 200./5000; math.Abs(ratios[0]-want) > 1e-9 {
			t.Errorf("%s: %.4f, want %.4f", p, ratios[0], want)
		}
		if ratios, _ = requestsOf(Limits{}).HitRatios(p, []int{10}); ratios[0] != 0 {
			t.Errorf("%s: %.4f hits of no request", p, ratios[0])
		}
	}
}

// An entry lives for so many requests since it was fetched, not since it was used: of "a" eleven times, with three of them a life,
// every third is a miss.
func TestLifetime(t *testing.T) {
	requests := requestsOf(Limits{}, strings.Split("aaaaaaaaaaa", "")...)
	if got := requests.Lifetime(3) * 11; math.Abs(got-7) > 1e-9 {
		t.Errorf("%.1f hits, want 7", got)
	}
	if got := requestsOf(Limits{}, "a", "b", "c", "a", "b").Lifetime(3); got != 0 {
		t.Errorf("%.2f hits of entries that are gone when they are asked for", got)
	}
}

// LRU and FIFO hit what a list of strings says that they do, on random requests with popular keys, for several sizes.
func TestAgainstAModel(t *testing.T) {
	r := rand.New(rand.NewSource(2))
	zipf := rand.NewZipf(r, 1.1, 2, 500)
	var keys []string
	for range 4000 {
		keys = append(keys, fmt.Sprint(zipf.Uint64()))
	}
	sizes := []int{1, 7, 50, 300}
	for _, policy := range []string{"lru", "fifo"} {
		got, _ := requestsOf(Limits{}, keys...).HitRatios(policy, sizes)
		for i, size := range sizes {
			var kept []string // the oldest first
			hits := 0
			for _, k := range keys {
				at := slices.Index(kept, k)
				if at >= 0 {
					if hits++; policy == "fifo" {
						continue
					}
					kept = slices.Delete(kept, at, at+1)
				} else if len(kept) == size {
					kept = kept[1:]
				}
				kept = append(kept, k)
			}
			if want := float64(hits) / float64(len(keys)); math.Abs(got[i]-want) > 1e-9 {
				t.Errorf("%s of %d: %.4f, want %.4f", policy, size, got[i], want)
			}
		}
	}
}

// With too many keys the sample stays within its limits, keeps whole keys, and estimates what the exact simulation says to a
// hundredth or two.
func TestSampling(t *testing.T) {
	r := rand.New(rand.NewSource(3))
	zipf := rand.NewZipf(r, 1.05, 20, 200_000)
	exact, sampled := NewRequests(Limits{}), NewRequests(Limits{Keys: 4000, Requests: 60_000})
	for range 200_000 {
		key := fmt.Appendf(nil, "/items/%d", zipf.Uint64())
		exact.Add(key)
		sampled.Add(key)
	}
	if len(sampled.hashes) > 4000 || len(sampled.log) > 60_000 || sampled.Rate() >= 0.5 {
		t.Errorf("%d keys, %d requests, rate %.3f", len(sampled.hashes), len(sampled.log), sampled.Rate())
	}
	if got, want := sampled.Keys(), exact.Keys(); math.Abs(float64(got-want)) > 0.05*float64(want) {
		t.Errorf("%d keys estimated of %d", got, want)
	}
	for _, policy := range Policies {
		sizes := []int{1000, 10_000}
		want, _ := exact.HitRatios(policy, sizes)
		got, _ := sampled.HitRatios(policy, sizes)
		for i := range sizes {
			if math.Abs(got[i]-want[i]) > 0.03 {
				t.Errorf("%s of %d: %.3f, exact %.3f", policy, sizes[i], got[i], want[i])
			}
		}
	}
	if got, want := sampled.Lifetime(5000), exact.Lifetime(5000); math.Abs(got-want) > 0.03 {
		t.Errorf("lifetime: %.3f, exact %.3f", got, want)
	}
}

// Few keys that are asked for more often than the limit allows: the older requests are forgotten, and the rest is exact.
func TestForgetting(t *testing.T) {
	requests := NewRequests(Limits{Keys: 10, Requests: 100})
	for i := range 1000 {
		requests.Add([]byte{'a' + byte(i%4)})
	}
	ratios, _ := requests.HitRatios("lru", []int{4})
	if seen := requests.Seen(); seen > 101 || seen < 50 || requests.Rate() != 1 || math.Abs(ratios[0]-(1-4/float64(seen))) > 1e-9 {
		t.Errorf("%d requests seen at rate %.2f, hits %.3f", seen, requests.Rate(), ratios[0])
	}
}

// No sequence of requests makes a policy panic, hit a key that was never asked for, or keep more than it has places for.
func FuzzPolicies(f *testing.F) {
	f.Add([]byte("aabbcdefabaabacada"), 3)
	f.Fuzz(func(t *testing.T, keys []byte, size int) {
		requests := NewRequests(Limits{Keys: 40, Requests: 200})
		different := map[byte]bool{}
		for i, k := range keys {
			requests.Add(keys[i : i+1])
			different[k] = true
		}
		size = 1 + abs(size)%50
		for _, policy := range Policies {
			ratios, err := requests.HitRatios(policy, []int{size})
			if err != nil || ratios[0] < 0 || ratios[0] > 1 {
				t.Fatalf("%s: %v %v", policy, ratios, err)
			}
			if requests.Rate() == 1 && len(keys) < 200 && ratios[0] > 1-float64(len(different))/max(1, float64(len(keys)))+1e-9 && len(keys) > 0 {
				t.Fatalf("%s of %d: %.3f hits of %q", policy, size, ratios[0], keys)
			}
		}
	})
}

func abs(n int) int { return max(n, -(n + 1)) }
