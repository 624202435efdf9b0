package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// childVariable makes this program the one that is killed: the directory, the URL, when the alert began and when it ended.
const childVariable = "PERFAGENT_TEST_NOTIFIER"

type childOrders struct {
	Path, URL        string
	StartsAt, EndsAt time.Time
}

func TestMain(m *testing.M) {
	if os.Getenv(confinedVariable) != "" {
		if err := confinedChild(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if orders := os.Getenv(childVariable); orders != "" {
		if err := child(orders); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// child notifies until it is killed.
func child(text string) error {
	var o childOrders
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	c := Config{Receivers: []Receiver{{Name: "hook", Webhook: &Webhook{Endpoint: Endpoint{URL: o.URL}}}}, GroupWait: 20 * time.Millisecond, GroupInterval: 20 * time.Millisecond}
	n, err := New(Options{Path: o.Path, Config: c})
	if err != nil {
		return err
	}
	if trouble := n.Trouble(); len(trouble) > 0 {
		return fmt.Errorf("%q", trouble)
	}
	go func() {
		for {
			n.Send([]Alert{{Labels: map[string]string{"alertname": "Slow"}, StartsAt: o.StartsAt, EndsAt: o.EndsAt}})
			time.Sleep(5 * time.Millisecond)
		}
	}()
	n.Run(context.Background())
	return nil
}

// A program that notifies is killed with SIGKILL at two dozen random moments of an incident, with a receiver that fails every third time and dawdles: each
// beginning and each end has one notification, by the names that attempts keep.
func TestKillProcess(t *testing.T) {
	var attempts atomic.Int64
	s, got := receiving(t, func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Duration(rand.IntN(10)) * time.Millisecond)
		if attempts.Add(1)%3 == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	o := childOrders{Path: t.TempDir(), URL: s.URL, StartsAt: time.Now()}
	rounds := func(status string, kills int) {
		for i := 0; ; i++ {
			if heard := names(t, got(), status); i >= kills && len(heard) > 0 {
				return
			}
			if i > 10*kills {
				t.Fatalf("%s was never told in %d lives", status, i)
			}
			liveAndDie(t, o, time.Duration(rand.IntN(200))*time.Millisecond)
		}
	}
	kills := 12
	if testing.Short() {
		kills = 3
	}
	rounds(statusFiring, kills)
	o.EndsAt = time.Now()
	rounds(statusResolved, kills)
	for _, status := range []string{statusFiring, statusResolved} {
		if heard := names(t, got(), status); len(heard) != 1 {
			t.Errorf("%s was told as %v", status, heard)
		}
	}
}

// liveAndDie starts a child and kills it after a while.
func liveAndDie(t *testing.T, o childOrders, life time.Duration) {
	t.Helper()
	orders, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	var output bytes.Buffer
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), childVariable+"="+string(orders))
	c.Stderr = &output
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	select {
	case err := <-ended:
		t.Fatalf("it ended by itself: %v %s", err, &output)
	case <-time.After(life):
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-ended
}

// names returns the names of the notifications with a status that were sent.
func names(t *testing.T, requests []received, status string) []string {
	t.Helper()
	found := map[string]bool{}
	for _, r := range requests {
		var m webhookMessage
		if err := json.Unmarshal(r.body, &m); err != nil {
			t.Fatal(err)
		}
		if m.Status == status {
			found[r.Header.Get(IDHeader)] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}
