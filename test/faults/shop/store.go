package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"golang.org/x/sys/unix"
)

// storeHandler answers with what is in stock, as a database would: after a short wait.
func storeHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /stock/{what}", func(w http.ResponseWriter, _ *http.Request) {
		f := faults.Load()
		wait := .8 + .4*rand.ExpFloat64()
		if f.DelayMS > 0 {
			wait += f.DelayMS * (.7 + .6*rand.Float64())
		}
		time.Sleep(milliseconds(wait))
		if rand.Float64() < f.ErrorShare {
			http.Error(w, "out of order", http.StatusInternalServerError)
			return
		}
		fmt.Fprintf(w, "%d in stock", rand.IntN(100))
	})
	return mux
}

// threadTime is the processor time of the calling thread.
func threadTime() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) // cannot fail with this clock
	return time.Duration(ts.Nano())
}
