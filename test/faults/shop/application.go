package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"
)

const (
	// catalogBytes is the size of the file that items are read from, through the page cache.
	catalogBytes = 64 << 20
	// itemPages are read for each item, at random places.
	itemPages = 40
	// poolSize bounds the connections to the store.
	poolSize = 16
	// orderBytes is what an order writes to the disk.
	orderBytes = 4096
)

// application is the shop.
type application struct {
	store   string
	work    float64
	catalog []byte // mapped
	orders  *os.File

	client http.Client
	pool   chan struct{} // a place for each connection to the store
	lock   sync.Mutex    // of the stock
	stock  map[int]int
	writes sync.Mutex // orders are written one after the other
}

func newApplication(store, data string, work float64) (*application, error) {
	a := &application{store: "http://" + store, work: work, pool: make(chan struct{}, poolSize), stock: map[int]int{}}
	a.client.Transport = &http.Transport{MaxIdleConnsPerHost: poolSize, IdleConnTimeout: 10 * time.Second}
	file, err := os.OpenFile(filepath.Join(data, "catalog"), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close() // the mapping stays
	if a.catalog, err = syscall.Mmap(int(file.Fd()), 0, catalogBytes, syscall.PROT_READ, syscall.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("map the catalog: %w", err)
	}
	if err := syscall.Madvise(a.catalog, syscall.MADV_RANDOM); err != nil {
		return nil, fmt.Errorf("advise on the catalog: %w", err)
	}
	for i := 0; i < len(a.catalog); i += os.Getpagesize() { // warm, as after a while
		touched ^= a.catalog[i]
	}
	a.orders, err = os.OpenFile(filepath.Join(data, "orders"), os.O_RDWR, 0)
	return a, err
}

// touched keeps reads from being optimised away.
var touched byte

func (a *application) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.answer(a.home))
	mux.HandleFunc("GET /items/{id}", a.answer(a.item))
	mux.HandleFunc("GET /search", a.answer(a.search))
	mux.HandleFunc("POST /orders", a.answer(a.order))
	return mux
}

// answer writes what was found, or how it failed.
func (a *application) answer(find func(r *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		found, err := find(r)
		if err == nil && rand.Float64() < faults.Load().ErrorShare {
			err = fmt.Errorf("no price for the item")
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(found) // the client has gone
	}
}

func (a *application) home(r *http.Request) (any, error) {
	a.compute(400 * time.Microsecond)
	return a.ask(r.Context(), "/stock/front")
}

func (a *application) item(r *http.Request) (any, error) {
	a.compute(200 * time.Microsecond)
	sum := 0
	for range itemPages {
		sum += int(a.catalog[rand.IntN(len(a.catalog))])
	}
	a.lock.Lock()
	a.stock[sum%1000]++
	a.lock.Unlock()
	return a.ask(r.Context(), "/stock/item")
}

func (a *application) search(r *http.Request) (any, error) {
	a.compute(1500 * time.Microsecond)
	return a.ask(r.Context(), "/stock/search")
}

func (a *application) order(r *http.Request) (any, error) {
	a.compute(300 * time.Microsecond)
	a.lock.Lock()
	a.stock[rand.IntN(1000)]--
	a.lock.Unlock()
	if err := a.write(); err != nil {
		return nil, err
	}
	return a.ask(r.Context(), "/stock/order")
}

// write puts an order on the disk.
func (a *application) write() error {
	a.writes.Lock()
	defer a.writes.Unlock()
	at := rand.Int64N(1000) * orderBytes
	if _, err := a.orders.WriteAt(make([]byte, orderBytes), at); err != nil {
		return err
	}
	return syscall.Fdatasync(int(a.orders.Fd()))
}

// ask calls the store over one of the pool's connections.
func (a *application) ask(ctx context.Context, path string) (any, error) {
	select {
	case a.pool <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-a.pool }()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.store+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := a.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("store: %s", response.Status)
	}
	return string(body), err
}

// compute keeps a processor busy for some time of its own, whoever else wants it.
func (a *application) compute(d time.Duration) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	d = time.Duration(float64(d) * a.work * (.7 + .6*rand.Float64()))
	for end := threadTime() + d; threadTime() < end; {
		for range 2000 {
			touched++
		}
	}
}

// hold is what other parts of the program do with what requests need, while that is a fault.
func (a *application) hold(ctx context.Context) {
	leaks := false
	for ctx.Err() == nil {
		f := faults.Load()
		if f.LeakMB == 0 && leaks {
			debug.FreeOSMemory()
		}
		leaks = f.LeakMB > 0
		switch {
		case f.HoldLockMS > 0:
			a.lock.Lock()
			time.Sleep(milliseconds(f.HoldLockMS))
			a.lock.Unlock()
		case f.HoldPoolMS > 0:
			for range poolSize {
				a.pool <- struct{}{}
			}
			time.Sleep(milliseconds(f.HoldPoolMS))
			for range poolSize {
				<-a.pool
			}
		}
		time.Sleep(pause)
	}
}

func milliseconds(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }
