package route

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/perfagent/perfagent/internal/wire"
)

func shown(path string) string { return string(MaskPath(nil, []byte(path), "", wire.RouteNone)) }

// No segment that may be a secret is shown, neither in a path without a route, as a client's, nor in a learned route, from the
// first request on and however often it comes, one row each: long letters, mixed case, base64, keys of well-known services,
// codes, credentials, values behind a name, and what follows a word such as token.
func TestSecrets(t *testing.T) {
	for path, want := range map[string]string{
		"/reset/abcdefghijklmnopqrstuvwxyz":          "/reset/{id}",
		"/x/qwkjzhxvbnmtrplk":                        "/x/{id}",
		"/x/QWKJZHXVBNMTRPLK/y":                      "/x/{id}/y",
		"/x/correcthorsebatterystaple":               "/x/{id}",
		"/x/aaaaaaaaaaaaaaaaaaaaaaaa":                "/x/{id}",
		"/x/kfjdhgtybv-wqzxplmnkj-hgfdrtyuvb":        "/x/{id}",
		"/x/zxkq_wvbn_plmk_jhgf_dsaq":                "/x/{id}",
		"/x/qwkjzhxv7bnmtrplk":                       "/x/{id}",
		"/x/AbCdEfGhIjKlMnOp":                        "/x/{id}",
		"/x/bKqRtWvXzLmNpGhJ":                        "/x/{id}",
		"/x/QWxhZGRpbjpvcGVuIHNlc2FtZQ==":            "/x/{id}",
		"/x/QWxhZGRpbjpvcGVuIHNlc2FtZQ":              "/x/{id}",
		"/x/c2VjcmV0":                                "/x/{id}",
		"/x/c2VjcmV0cw==":                            "/x/{id}",
		"/x/dXNlcjpwYXNz.json":                       "/x/{id}.json",
		"/x/eyJhbGciOiJub25lIn0":                     "/x/{id}",
		"/x/sk_live_shopshopshop":                    "/x/{id}",
		"/x/AKIAEXAMPLEEXAMPLEAB":                    "/x/{id}",
		"/x/ghp_abcabcabcabcabc":                     "/x/{id}",
		"/token=abc":                                 "/token={token}",
		"/a/token=abc123/b":                          "/a/token={token}/b",
		"/a/access-token=shop":                       "/a/access-token={access-token}",
		"/a/sid=x,lang=en":                           "/a/sid={sid},lang={lang}",
		"/a/sid=x&lang":                              "/a/sid={sid}&{id}",
		"/a/qwkjzhxvbnmtrplk=1":                      "/a/{id}",
		"/a/password:hunter":                         "/a/password:{password}",
		"/token/banana":                              "/token/{id}",
		"/api-key/xyzzy":                             "/api-key/{id}",
		"/password-reset/hunter2banana":              "/password-reset/{id}",
		"/Secret/Rumpelstilz":                        "/Secret/{id}",
		"/odata/Items(order=1,no=2)":                 "/odata/Items(order={order},no={no})",
		"/u/550e8400-e29b-41d4-a716-446655440000/me": "/u/{uuid}/me",
		"/u/7;token=abc":                             "/u/{id}",
		"/oauth/sk_live_4eC39HqLyjWDarjtT1zdp7dc":    "/oauth/{id}",
		"/apikey=hunter2/x":                          "/apikey={apikey}/x",
		"/key=abc":                                   "/key={key}",
		"/x-api-key=a=b/y":                           "/x-api-key={x-api-key}/y",
		"/token/hunter":                              "/token/{id}",
		"/reset/aVeryLongSecretTokenWithSomeAbCdEf":  "/reset/{id}",
		"/reset/hunter2":                             "/reset/{id}",
		"/login/correct-horse-battery-staple":        "/login/{id}",
		"/login/Zx9-2_aKq1":                          "/login/{id}",
		"/invite/XK9-22L-PQ1":                        "/invite/{id}",
		"/x/XK9-22L-PQ1":                             "/x/{id}",
		"/session/abcdef":                            "/session/{id}",
		"/session/abcdef/start":                      "/session/{id}/start",
		"/verify/qrstuv":                             "/verify/{id}",
		"/magic/rumpel":                              "/magic/{id}",
		"/unsubscribe/rumpel/now":                    "/unsubscribe/{id}/now",
		"/user:pass@host/x":                          "/{id}/x",
		"/https://user:pass@host/x":                  "/https://{id}/x",

		"/reset//hunterab2":            "/reset//{id}",
		"/reset/./rumpel":              "/reset/./{id}",
		"/reset/../rumpel":             "/reset/../{id}",
		"/reset/;v=1/rumpel":           "/reset//{id}",
		"/token;v=1///./rumpel":        "/token///./{id}",
		"/accessToken/rumpel":          "/accessToken/{id}",
		"/verifyEmail/rumpel":          "/verifyEmail/{id}",
		"/JWTToken/rumpel":             "/JWTToken/{id}",
		"/token.json/rumpel":           "/token.json/{id}",
		"/login.php/rumpel":            "/login.php/{id}",
		"/token:/rumpel":               "/token:/{id}",
		"/token=/rumpel":               "/token=/{id}",
		"/user-token/rumpel":           "/user-token/{id}",
		"/user.token/rumpel":           "/user.token/{id}",
		"/setpassword/rumpel":          "/setpassword/{id}",
		"/auth_code/rumpel":            "/auth_code/{id}",
		"/authcode/rumpel":             "/authcode/{id}",
		"/resetCode/rumpel":            "/resetCode/{id}",
		"/pass/rumpel":                 "/pass/{id}",
		"/pw/rumpel":                   "/pw/{id}",
		"/pwd/rumpel":                  "/pwd/{id}",
		"/passwd/rumpel":               "/passwd/{id}",
		"/oauth/code/rumpel":           "/oauth/code/{id}",
		"/oauth2/code/rumpel":          "/oauth2/code/{id}",
		"/reset//code/rumpel":          "/reset//code/{id}",
		"/callback/code/rumpel":        "/callback/code/{id}",
		"/reset/link/rumpel":           "/reset/link/{id}",
		"/magic-link/rumpel":           "/magic-link/{id}",
		"/ticket/rumpel":               "/ticket/{id}",
		"/voucher/rumpel":              "/voucher/{id}",
		"/sso/rumpel":                  "/sso/{id}",
		"/accept/rumpel":               "/accept/{id}",
		"/otp/rumpel":                  "/otp/{id}",
		"/totp/rumpel":                 "/totp/{id}",
		"/pin/rumpel":                  "/pin/{id}",
		"/auth/basic/rumpel":           "/auth/basic/{id}",
		"/auth/bearer/rumpel":          "/auth/bearer/{id}",
		"/sign-in/rumpel":              "/sign-in/{id}",
		"/login,user=bob,pw=dragonfly": "/{id}",
		"/login,password=dragonfly":    "/{id}",
		"/x,lang=english":              "/{id}",
		"/a/token-hunterab":            "/a/{id}",
		"/a/token_hunterab":            "/a/{id}",
		"/a/token.hunterab":            "/a/{id}",
		"/a/token,hunterab":            "/a/{id}",
		"/a/userToken-rumpel":          "/a/{id}",
		"/a/verify-email-rumpel":       "/a/{id}",
		"/a/reset~rumpel":              "/a/{id}",
		"/a/password-correct-horse":    "/a/{id}",
		"/a/jane.doe@localhost":        "/a/{id}",
	} {
		if got := shown(path); got != want {
			t.Errorf("%q is shown as %q, want %q", path, got, want)
		}
		l := NewLearner()
		for i := range 300 {
			if got := string(l.Learn(nil, "GET", []byte(path), 200, 1)); got != want {
				t.Errorf("request %d for %q has the route %q, want %q", i+1, path, got, want)
				break
			}
		}
	}
	// The same in what a learned route does not name, and nowhere else on the server's side.
	for _, tt := range [][3]string{{"/files/token=abc/x", "/files/*", "/files/token={token}/x"}, {"/token/hunter", "/token/*", "/token/{id}"}, {"/x/correcthorsebatterystaple", "/x/correcthorsebatterystaple", "/x/correcthorsebatterystaple"}} {
		if got := string(MaskPath(nil, []byte(tt[0]), tt[1], wire.RouteLearned)); got != tt[2] {
			t.Errorf("%v: got %q", tt, got)
		}
	}
}

// What mixes letters and digits or cases like a code is shown of no client, nor by a service that it comes to for the first time or
// seldom; a word of that form becomes a route with many requests.
func TestCodes(t *testing.T) {
	for path, want := range map[string]string{
		"/x/aB3xKmQp":              "/x/{id}",
		"/x/kXpTqWzr":              "/x/{id}",
		"/x/kXpTqWzrBn":            "/x/{id}",
		"/x/de:ad:be:ef:00:11":     "/x/{id}",
		"/x/ab:cd:ef:ab":           "/x/{id}",
		"/x/k3jd-9x2m-qp4z":        "/x/{id}",
		"/x/k3jd.9x2m.qp4z":        "/x/{id}",
		"/x/k3jd~9x2m~qp4z":        "/x/{id}",
		"/x/qzv-wkfd-hjx":          "/x/{id}",
		"/x/abc-defg-hij":          "/x/{id}",
		"/x/Zx9_aKqB1cQ":           "/x/{id}",
		"/x/AB3!x9Q2$":             "/x/{id}",
		"/x/s-7f3a-9b2c-dd01-aa":   "/x/{id}",
		"/x/P@ssw0rd":              "/x/{id}",
		"/s/d8Zlq8/edit":           "/s/{id}/edit",
		"/b/aB3x":                  "/b/{id}",
		"/rootSecret99":            "/{id}",
		"/a/deadbeef":              "/a/{id}",
		"/a/u:pass9word":           "/a/{id}",
		"/a/fragtok12#x":           "/a/{id}",
		"/a/password1":             "/a/{id}",
		"/api/widgets/d8Zlq8":      "/api/widgets/{id}",
		"/files/report-a8f3k2.pdf": "/files/{id}.pdf",
	} {
		if got := shown(path); got != want {
			t.Errorf("%q is shown as %q, want %q", path, got, want)
		}
		l := NewLearner()
		secret := strings.Split(strings.TrimSuffix(path, "/edit"), "/")
		for i := range 40 {
			if got := string(l.Learn(nil, "GET", []byte(path), 200, 1)); strings.Contains(got, secret[len(secret)-1]) {
				t.Errorf("request %d for %q has the route %q", i+1, path, got)
				break
			}
			l.Learn(nil, "GET", []byte("/healthz"), 200, 1)
		}
	}
	l := NewLearner() // most of the requests of a place with other values
	for i := range 45 {
		l.Learn(nil, "GET", []byte("/shop/articles/"+single.make(nil, i/3)), 200, 1)
		if i < 15 {
			continue
		}
		got := string(l.Learn(nil, "GET", []byte("/shop/articles/d8Zlq8"), 200, 3))
		if requests := 3 * (i - 14); requests < codedTrusted-2 && strings.Contains(got, "d8Z") {
			t.Errorf("after %d requests: %s", requests, got)
		}
	}
	l = NewLearner()
	for range 300 {
		l.Learn(nil, "GET", []byte("/api/mix3rboard/start"), 200, 1)
	}
	if got := string(l.Learn(nil, "GET", []byte("/api/mix3rboard/start"), 200, 1)); got != "/api/mix3rboard/start" {
		t.Errorf("a busy word with a digit is %s", got)
	}
}

// Random tokens of letters and digits are nearly never shown.
func TestRandomCodes(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, length := range []int{6, 8, 10, 11} {
		raw := 0
		const tries = 2000
		for range tries {
			if path := "/x/" + chars(r, base62, length); shown(path) == path {
				raw++
			}
		}
		t.Logf("%d of base62: %.1f %% shown", length, 100*float64(raw)/tries)
		if raw*100 > tries*map[int]int{6: 20, 8: 8, 10: 3, 11: 3}[length] {
			t.Errorf("%d of base62: %d of %d are shown", length, raw, tries)
		}
	}
}

// Words, versions and names of files are shown as they are.
func TestNoSecrets(t *testing.T) {
	for path := range strings.FieldsSeq(`/ /users/ /api/v1/orders /api/v1.2.3/items /apis/apps/v1beta1/deployments /openapi.json /favicon.ico
		/static/jquery-3.6.0.min.js /assets/bootstrap.bundle.min.css /.well-known/openid-configuration /internationalization /configuration/telecommunications
		/how-to-install-go-on-linux /getApplicationLoadBalancerTargetGroups /listCustomerSubscriptions /XMLHttpRequest /AllergyIntolerance
		/ContentAndApprovals /GraphQLApiKeys /characteristics/straightforward /applicationconfiguration/notificationsettings
		/CustomerServiceRequestNotifications /wp-json/wp/v2/posts /messages:batchDelete /token/refresh /tokens/revoke /reset/password /password/reset /secrets/list
		/password/forgot /token/v2 /reset/style.css /oauth2/token /oauth/authorize /v3/auth/tokens /kubernetes/namespaces /elasticsearch/_search /prometheus/query_range
		/repos/acme/widgets/pulls /subscriptions/providers/Microsoft.Compute/virtualMachines /functions/invocations /storage/buckets/o
		/us-east-1 /eu-west-2a /x86_64-linux-gnu /sha256 /base64 /healthz /-/ready /metrics /graphql /robots.txt /index.html /style= /name=
		/login/callback /login/oauth2/code /login/oauth/authorize /session/new /sessions/current /verify/email /invite/accept /unsubscribe/confirm
		/date=2026-01-01/part.csv /keys/rotate /messages:send /npm/@types/node /Mercury_(planet) /wiki/Schwarzenegger /wiki/Encyclopaedia /wiki/Mississippi /psychotherapy /api/v2beta1/x /web2print /oauth2callback /OAuth2Callback /s3bucket /ipv6 /video/clip.mp4 /fonts/icons.woff2 /archive.tar.bz2
		/react@latest /secret-scanning/alerts /code-scanning /token-exchange /password-policies /session-recording /login-attempts /login.html /token.service.ts /country/code/DEUT /keyboard/layout
		/passport/photo /tickets/overview /auth/google /iso-8859-1 /top-10 /eu-west-2a/zone /part2 /dnd.endSnooze /identity_verification/autofill /projectsV2 /http_session_duration_95p /login-with-a-passkey /route53 /server1.log /authentication/synchronization /rhythms`) {
		if got := shown(path); got != path {
			t.Errorf("%q is shown as %q", path, got)
		}
	}
}

// Random letters are nearly always known, the longer the surer.
func TestRandomLetters(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		letters string
		length  int
		least   int // percent
	}{
		{"abcdefghijklmnopqrstuvwxyz", 12, 80}, {"abcdefghijklmnopqrstuvwxyz", 16, 93}, {"abcdefghijklmnopqrstuvwxyz", 20, 98}, {"abcdefghijklmnopqrstuvwxyz", 24, 100},
		{"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", 8, 50}, {"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", 12, 90},
		{"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", 16, 97}, {"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16, 97},
		{"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", 22, 99},
	} {
		known := 0
		const tries = 2000
		for range tries {
			s := make([]byte, c.length)
			for i := range s {
				s[i] = c.letters[r.IntN(len(c.letters))]
			}
			if shown("/x/"+string(s)) != "/x/"+string(s) {
				known++
			}
		}
		t.Logf("%d of %d letters: %.1f %%", c.length, len(c.letters), 100*float64(known)/tries)
		if known*100 < c.least*tries {
			t.Errorf("%d of %d letters: %d of %d are known", c.length, len(c.letters), known, tries)
		}
	}
}
