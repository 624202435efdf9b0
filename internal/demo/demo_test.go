package demo

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// partArgument makes this test's program a part of the shop.
const partArgument = "part"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == partArgument {
		if err := Serve(os.Args[2], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func startShop(t *testing.T) *Shop {
	t.Helper()
	s, err := Start(t.Context(), Options{Command: []string{os.Args[0], partArgument}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// ask returns what the front answers.
func (s *Shop) ask(t *testing.T, method, path string) (status int, body string) {
	t.Helper()
	front := s.running[slices.Index(Names(), Front)]
	request, err := http.NewRequest(method, "http://"+front.address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Close = true
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(data)
}

// The front answers each kind of visit through the services behind it; a fault makes requests fail, and its end ends that. At the end no
// process is left.
func TestShop(t *testing.T) {
	s := startShop(t)
	for _, v := range visits {
		want := http.StatusOK
		if strings.HasSuffix(v.path(), "999") {
			want = http.StatusNotFound
		}
		if status, body := s.ask(t, v.method, v.path()); status != want {
			t.Errorf("%s %s: %d %s", v.method, v.path(), status, body)
		}
	}
	failing := Fault{Kind: Errors, Strength: 100}
	set := func(change func(Fault) error, want int) {
		t.Helper()
		if err := change(failing); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			status, _ := s.ask(t, http.MethodPost, "/checkout")
			if status == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("status %d, expected %d", status, want)
			}
		}
	}
	set(s.Begin, http.StatusBadGateway)
	set(s.End, http.StatusOK)
	pids := s.PIDs()
	if len(pids) != len(Names()) {
		t.Errorf("%d processes", len(pids))
	}
	s.Close()
	for _, pid := range pids {
		if err := syscall.Kill(int(pid), 0); err == nil {
			t.Errorf("process %d is left", pid)
		}
	}
	select {
	case err := <-s.Failed():
		t.Errorf("an end that was asked for is a failure: %v", err)
	default:
	}
}

// Shoppers come once they may, and no earlier.
func TestShoppers(t *testing.T) {
	came := make(chan string, 100)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case came <- r.Header.Get("Traceparent"):
		default:
		}
	})}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	s := &Shop{failed: make(chan error, 1), closed: make(chan struct{})}
	t.Cleanup(s.Close)
	shoppers := parts[slices.Index(Names(), Shoppers)]
	if _, err := s.start(t.Context(), []string{os.Args[0], partArgument}, shoppers, map[string]string{Front: l.Addr().String()}); err != nil {
		t.Fatal(err)
	}
	if len(came) > 0 {
		t.Error("they came before they may")
	}
	if err := s.Open(); err != nil {
		t.Fatal(err)
	}
	select {
	case trace := <-came:
		if fields := strings.Split(trace, "-"); len(fields) != 4 || len(fields[1]) != 32 || len(fields[2]) != 16 {
			t.Errorf("traceparent %q", trace)
		}
	case <-time.After(20 * time.Second):
		t.Error("nobody comes")
	}
}

// A part that ends by itself is told of, with its name.
func TestShopFails(t *testing.T) {
	s := startShop(t)
	if err := syscall.Kill(int(s.PIDs()[slices.Index(Names(), Payments)]), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-s.Failed():
		if !strings.HasPrefix(err.Error(), Payments) {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("nobody told of it")
	}
}

// A part that cannot serve ends the start with its reason.
func TestShopDoesNotStart(t *testing.T) {
	for command, want := range map[string]string{"/nonexistent/shop": "no such file", "/bin/false": "start cache of the demo: it ended"} {
		if s, err := Start(t.Context(), Options{Command: []string{command}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", command, err)
			if s != nil {
				s.Close()
			}
		}
	}
	err := Serve(Orders, strings.NewReader(`{"needs":{"catalogue":"127.0.0.1:1"}}`), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "is not told where payments is") {
		t.Error(err)
	}
	if err := Serve("kiosk", strings.NewReader("{}"), io.Discard); err == nil || !strings.Contains(err.Error(), "kiosk") {
		t.Error(err)
	}
}

// The schedule has every kind of fault before the agent has learned and after, one at a time, each with a pause behind it in which what it did
// ends, and of the later ones what the agent says of it; these are several times as strong, and two of them are found before ten minutes are over.
func TestSchedule(t *testing.T) {
	strongest := make(map[Kind]int)
	end, found := time.Duration(0), 0
	for i := range 12 {
		f := Next(end)
		pause := 20 * time.Second
		if i > len(early) {
			pause = 80 * time.Second
		}
		if f.At > Learned && f.End+time.Minute < 10*time.Minute {
			found++
		}
		if f.At < end+pause || f.End <= f.At {
			t.Errorf("fault %d comes %s after the start, the one before it ended at %s", i, f.At, end)
		}
		if f.At < Learned != (i < len(early)) {
			t.Errorf("fault %d comes at %s", i, f.At)
		}
		if f.At < Learned {
			strongest[f.Kind] = f.Strength
		} else if f.Strength < 2*strongest[f.Kind] || strongest[f.Kind] == 0 {
			t.Errorf("fault %d: strength %d after %d", i, f.Strength, strongest[f.Kind])
		}
		if f.Kind == Hog && f.Strength > hogPercent || f.Part() == "" || f.Watch() == "" || !strings.Contains(f.Says(), strconv.Itoa(f.Strength)) {
			t.Errorf("fault %d: %+v: %s", i, f, f.Says())
		}
		end = f.End
	}
	if len(strongest) != int(kinds)-1 || found != 2 {
		t.Errorf("kinds: %v; %d in ten minutes", strongest, found)
	}
}

// Visits are chosen as often as they say, all of them.
func TestVisits(t *testing.T) {
	seen := make(map[string]int)
	for n := range visitsOf {
		v := pick(n)
		path, _, _ := strings.Cut(v.path(), "?")
		seen[strings.TrimRight(path, "0123456789")]++
	}
	for prefix, want := range map[string]int{"/": 40, "/products/": 81, "/search": 20, "/orders/": 23, "/checkout": 24} {
		if seen[prefix] != want {
			t.Errorf("%s: %d of %d, expected %d", prefix, seen[prefix], visitsOf, want)
		}
	}
}

func startCache(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() { _ = serveCache(nil, &connection{l}) }()
	return l.Addr().String()
}

// The cache keeps what it is given, says of other keys that they are not there, and goes on for a client whose connection broke.
func TestCache(t *testing.T) {
	c := newCacheClient(startCache(t))
	if v, ok := c.get("a"); ok {
		t.Errorf("there is %q", v)
	}
	c.set("a", "x\r\ny")
	if v, ok := c.get("a"); !ok || v != "x\r\ny" {
		t.Errorf("got %q, %t", v, ok)
	}
	c.conn.Close()
	c.get("a") // notices
	if v, ok := c.get("a"); !ok || v != "x\r\ny" {
		t.Errorf("after a broken connection: %q, %t", v, ok)
	}
	for n := range cacheKeys + 1 {
		c.set(strconv.Itoa(n), "v")
	}
	if _, ok := c.get("a"); ok {
		t.Error("the cache has no bound")
	}
}

// What is no command closes the connection, whatever length it claims.
func TestCacheCommands(t *testing.T) {
	address := startCache(t)
	for _, test := range []struct{ input, want string }{
		{"*1\r\n$4\r\nPING\r\n", "+PONG\r\n"},
		{"*1\r\n$4\r\nQUIT\r\n", "-ERR the demo's cache knows GET, SET and PING\r\n"},
		{"*9\r\n", ""},
		{"*-1\r\n", ""},
		{"*1\r\n$99999999999\r\n", ""},
		{"*1\r\n$-5\r\n", ""},
		{"GET / HTTP/1.1\r\n\r\n", ""},
		{"\r\n", ""},
		{strings.Repeat("*", 8<<10) + "\r\n", ""},
		{"*2\r\n$3\r\nGET\r\n$1\r\na\r\n", "$-1\r\n"},
		{"*2\r\n$3\r\nGET\r\n$-1\r\n", ""},
		{"*3\r\n$3\r\nset\r\n$1\r\na\r\n$0\r\n\r\n", "+OK\r\n"},
	} {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, test.input); err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		got, _ := bufio.NewReader(c).ReadString('\n')
		c.Close()
		if got != test.want {
			t.Errorf("%.40q: %q, expected %q", test.input, got, test.want)
		}
	}
}
