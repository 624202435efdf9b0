package main

// statisticsRuns are of trends, correlations, causes and forecasts. The shares are of 200 series a cell, for which a perfect
// test has a worst cell of about 0.10.
var statisticsRuns = []run{
	{
		what: "trend", scorer: "stat_score.py trend", engine: "trend",
		figures: []figure{
			{"false share, mean", []string{"MEAN"}, between(0.04, 0.06), nil},
			{"false share, worst cell", []string{"CALIB"}, nil, nil},
			{"power", []string{"POWER"}, atLeast(0.70), nil},
			{"slope error", []string{"SLOPE"}, nil, atMost(0.135)},
			{"slope error, outliers", []string{"SLOPE_OUT"}, nil, atMost(0.095)},
		},
	},
	{
		what: "correlation", scorer: "stat_score.py corr", engine: "correlation",
		figures: []figure{
			{"false share, mean", []string{"MEAN"}, between(0.045, 0.055), nil},
			{"false share, worst cell", []string{"CALIB"}, nil, nil},
			{"power", []string{"POWER"}, atLeast(0.78), nil},
		},
	},
	causeRun("cause", "0"), causeRun("cause, 30 s early", "-30"), causeRun("cause, 30 s late", "30"),
	{
		what: "forecast", scorer: "fc_score.py", engine: "forecast",
		figures: []figure{
			{"OWA", []string{"OWA"}, atMost(0.50), atMost(0.44)},
			{"MSIS", []string{"MSIS"}, nil, atMost(8)},
			{"coverage error", []string{"ACD"}, atMost(0.03), atMost(0.02)},
		},
	},
	cacheRun("cache", "cache"), cacheRun("cache, sample of 32768 keys", "cache --keys=32768"),
}

// cacheRun simulates what caches would answer; the errors are of hit ratios, against exact simulations.
func cacheRun(what, engine string) run {
	return run{
		what: what, scorer: "cache_score.py score --policies lru,lfu,fifo,arc,sieve,s3fifo,wtinylfu,ttl", engine: engine,
		figures: []figure{
			{"mean error, LRU", []string{"mae", "lru"}, nil, atMost(0.005)},
			{"mean error, ARC", []string{"mae", "arc"}, nil, atMost(0.010)},
			{"mean error, S3-FIFO", []string{"mae", "s3fifo"}, nil, atMost(0.010)},
			{"mean error, lifetimes", []string{"mae", "ttl"}, nil, atMost(0.003)},
			{"best policy right", []string{"best"}, nil, atLeast(0.95)},
		},
	}
}

// causeRun ranks causes with the start of the trouble off by some seconds.
func causeRun(what, shift string) run {
	return run{
		what: what, scorer: "rca_score.py --shift=" + shift, engine: "rootcause",
		figures: []figure{
			{"metric AC@1", []string{"metric_all", "AC1"}, atLeast(0.80), atLeast(0.90)},
			{"metric AC@3", []string{"metric_all", "AC3"}, atLeast(0.95), atLeast(0.98)},
		},
	}
}
