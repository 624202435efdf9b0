package route

import (
	"strings"
	"testing"
)

// What stands behind a word that tells of a secret is a value in both roles, one row each: whatever stands between them, however the
// word is encoded, and in a phrase.
func TestTelling(t *testing.T) {
	for path, want := range map[string]string{
		// versions and the like between
		"/token/v1/swordfish":           "/token/v1/{id}",
		"/token/v1/api/swordfish":       "/token/v1/api/{id}",
		"/auth/v2/swordfish":            "/auth/v2/{id}",
		"/reset/v1/swordfish":           "/reset/v1/{id}",
		"/reset/v1.2/swordfish":         "/reset/v1.2/{id}",
		"/api/login/v1/hunter":          "/api/login/v1/{id}",
		"/api/login/v1/oauth2/hunter":   "/api/login/v1/oauth2/{id}",
		"/key/sha256/swordfish":         "/key/sha256/{id}",
		"/pin/en/swordfish":             "/pin/en/{id}",
		"/session/abc/swordfish":        "/session/abc/{id}",
		"/oauth/v2/code/swordfish":      "/oauth/v2/code/{id}",
		"/reset/MQ/swordfish":           "/reset/MQ/{id}",
		"/token/v1;x=1//./swordfish":    "/token/v1//./{id}",
		"/token/%76%31/swordfish":       "/token/{id}/{id}",
		"/verify/1042/swordfish":        "/verify/{id}/{id}",
		"/verify/email/swordfish":       "/verify/email/{id}",
		"/confirm/account/v1/swordfish": "/confirm/account/v1/{id}",
		"/token/hunter/swordfish":       "/token/{id}/{id}",
		// encoded words
		"/to%6ben/swordfish":          "/{id}/{id}",
		"/pass%77ord/swordfish":       "/{id}/{id}",
		"/%74%6F%6b%65%6E/swordfish":  "/{id}/{id}",
		"/%2574oken/swordfish":        "/{id}/{id}",
		"/%252574oken/swordfish":      "/{id}/{id}",
		"/to%6ben%3bv=1/v1/swordfish": "/{id}/v1/{id}",
		"/to%6ben/%2e/swordfish":      "/{id}/{id}/{id}",
		"/a%2ftoken/swordfish":        "/{id}/{id}",
		"/auth/c%6fde/swordfish":      "/auth/{id}/{id}",
		"/sha%72e/swordfish":          "/{id}/{id}",
		"/%zz-token/swordfish":        "/{id}/{id}",
		"/token%/swordfish":           "/{id}/{id}",
		// phrases
		"/my-password-is/letmein":   "/my-password-is/{id}",
		"/my_password_is/letmein":   "/my_password_is/{id}",
		"/myPasswordIs/letmein":     "/myPasswordIs/{id}",
		"/my/password/is/letmein":   "/my/password/is/{id}",
		"/my-password-is-letmein":   "/{id}",
		"/the-pin-is/letmein":       "/the-pin-is/{id}",
		"/key-is/letmein":           "/key-is/{id}",
		"/my-login-is/letmein":      "/my-login-is/{id}",
		"/session-id/letmein":       "/session-id/{id}",
		"/password-of-bob/letmein":  "/{id}/{id}",
		"/token-value.json/letmein": "/token-value.json/{id}",
		"/pwreset/letmein":          "/pwreset/{id}",
		"/passwordPolicy/letmein":   "/passwordPolicy/{id}",
		// short ones with digits
		"/password/p4ss":    "/password/{id}",
		"/password/v1/p4ss": "/password/v1/{id}",
		"/pin/a1b":          "/pin/{id}",
		"/otp/x7":           "/otp/{id}",
		"/auth/p4s":         "/auth/{id}",
	} {
		expectShown(t, path, want)
	}
	for path := range strings.FieldsSeq(`/oauth/v2/token /oauth2/v1/authorize /auth/v1/callback /login/v1/callback /auth/v1/magiclink /auth/2fa /auth/saml2/acs
		/auth/google /auth/v1/github/callback /auth/whoami /token/v2 /keys/usage/report /tickets/swordfish /registrations/swordfish /auth/realms/swordfish
		/v1/sessions/new/swordfish /mfa/totp /auth/signin-oidc /verify/email/resend /login/oauth/access_token /key-value/store /2fa/enable`) {
		expectShown(t, path, path)
	}
}

// expectShown fails unless a path is shown as expected where it has no route, and is learned as that where a value is in it.
func expectShown(t *testing.T, path, want string) {
	t.Helper()
	if got := shown(path); got != want {
		t.Errorf("%q is shown as %q, want %q", path, got, want)
	}
	if path == want {
		return
	}
	l := NewLearner()
	for i := range 100 {
		if got := string(l.Learn(nil, "GET", []byte(path), 200, 1)); got != want && !strings.HasSuffix(got, "*") || strings.Contains(got, "swordfish") || strings.Contains(got, "letmein") {
			t.Errorf("request %d for %q has the route %q, want %q", i+1, path, got, want)
			return
		}
	}
}

// Which words tell: each one in the table, with its plural or in a compound where it has one; those that name resources as often do not.
func TestTellingWords(t *testing.T) {
	for w := range strings.FieldsSeq(`token tokens access-token refreshToken auth_token secret secrets client-secret password passwords passwd pwd pw pass
		passphrase passcode passcodes credential credentials creds key keys apikey apikeys api-key accesskey access-key secretkey private_key licenseKey
		pin pins otp totp mfa 2fa tfa nonce csrf xsrf cookie session sessions session-id sid sso bearer jwt jwts magic-link magiclink share-link
		share shares ticket voucher vouchers coupon mnemonic signature sig auth oauth oauth2 authorize reset reset-password passwordReset forgot
		recover recovery recovery-code backup-codes login logon log-in signin sign-in signup sign-up register verify verification validate confirm
		confirm-email activate activation invite invites invitation join unsubscribe unsub opt-out unlock accept approve decline rsvp redeem
		authcode device-code download-token`) {
		expectShown(t, "/"+w+"/swordfish", "/"+w+"/{id}")
		expectShown(t, "/v1/"+w+"/v2/swordfish", "/v1/"+w+"/v2/{id}")
	}
	for w := range strings.FieldsSeq(`code country/code download downloads shared public webhook webhooks hooks saml claim claims grants tickets registration registrations
		keyboard passport authors authentication monkey`) {
		expectShown(t, "/"+w+"/swordfish", "/"+w+"/swordfish")
	}
}

// Encoded words cost no memory.
func TestTellingAllocatesNothing(t *testing.T) {
	path, buf := []byte("/api/%2574oken/v1/swordfish/to%6ben"), make([]byte, 0, 256)
	if n := testing.AllocsPerRun(100, func() { buf = Mask(buf[:0], path) }); n != 0 {
		t.Errorf("%v allocations for %s", n, buf)
	}
}
