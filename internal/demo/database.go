package demo

import (
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	readTime  = 1500 * time.Microsecond
	writeTime = 3 * time.Millisecond
	lockPause = 100 * time.Millisecond // between two times that the table is held
)

// serveDatabase answers questions of tables over HTTP. Writers of orders, and who reads one, need the table's lock.
func serveDatabase(p *process, l *connection) error {
	var orders sync.Mutex
	go holdLock(p, &orders)
	locked := func(d time.Duration) {
		orders.Lock()
		defer orders.Unlock()
		time.Sleep(d / 5) // in the index; the row itself is read and written without the lock
	}
	return serveHTTP(l, map[string]handler{
		"GET /tables/products": func(*http.Request) (any, error) {
			work(3 * readTime)
			return []row{{"1001", "tea"}, {"1002", "coffee"}, {"1003", "cocoa"}}, nil
		},
		"GET /tables/products/{id}": func(r *http.Request) (any, error) {
			work(readTime)
			if n, err := strconv.Atoi(r.PathValue("id")); err != nil || n < firstID || n >= firstID+productsMax {
				return nil, statusError{status: http.StatusNotFound}
			}
			return row{r.PathValue("id"), "tea"}, nil
		},
		"GET /tables/users/{id}/orders": func(*http.Request) (any, error) {
			work(4 * readTime)
			return []row{{id(ordersMax), "paid"}, {id(ordersMax), "sent"}}, nil
		},
		"GET /tables/orders/{id}": func(r *http.Request) (any, error) {
			locked(readTime)
			work(readTime)
			return row{r.PathValue("id"), "paid"}, nil
		},
		"POST /tables/orders": func(*http.Request) (any, error) {
			locked(writeTime)
			work(writeTime)
			return row{id(ordersMax), "paid"}, nil
		},
	})
}

type row struct {
	ID    string `json:"id"`
	Value string `json:"value"`
}

// holdLock holds the lock again and again while that fault lasts, idle: nobody can see from outside why others wait.
func holdLock(p *process, orders *sync.Mutex) {
	for range time.Tick(lockPause) {
		if hold := p.milliseconds(Lock); hold > 0 {
			orders.Lock()
			time.Sleep(hold)
			orders.Unlock()
		}
	}
}
