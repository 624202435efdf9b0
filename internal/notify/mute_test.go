package notify

import (
	"testing"
	"time"
)

// Matchers mean what Prometheus' do: patterns are whole, an absent label is "", values may be quoted; what is none is refused.
func TestMatchers(t *testing.T) {
	labels := map[string]string{"service_name": "shop", "http_route": "/a\nb"}
	for text, want := range map[string]bool{
		`service_name="shop"`: true, `service_name=shop`: true, ` service_name = "shop" `: true, `service_name="sho"`: false, `service_name!="shop"`: false, `service_name!=bank`: true,
		`service_name=~"sh.p|bank"`: true, `service_name=~"sho"`: false, `service_name!~"sho"`: true, `service_name!~".*"`: false, `missing=""`: true, `missing!=""`: false,
		`missing=~".+"`: false, `http_route=~"/a.b"`: true, `http_route="/a\nb"`: true, `service_name=~""`: false,
	} {
		m, err := ParseMatcher(text)
		if err != nil || m.matches(labels) != want {
			t.Errorf("%s: %v, %v", text, m.matches(labels), err)
		}
	}
	for _, text := range []string{"", "shop", "=shop", "1a=b", `a="b`, `a=~"("`, "a>b", "a b=c"} {
		if m, err := ParseMatcher(text); err == nil {
			t.Errorf("%q is %+v", text, m)
		}
	}
}

// Quiet hours are by the clock on the wall, also in the night in which it is changed, and a night belongs to the day on which it begins.
func TestQuietHoursOfAClock(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	night := QuietHours{From: 22 * 60, To: 6 * 60, Zone: berlin}
	night.Days[time.Saturday] = true
	whole := QuietHours{From: 0, To: 24 * 60, Zone: berlin}
	whole.Days[time.Sunday] = true
	for _, c := range []struct {
		at           string // 2026-03-29, a Sunday, has no 02:00 to 03:00 there
		night, whole bool
	}{
		{"2026-03-28T20:59:59Z", false, false}, {"2026-03-28T21:00:00Z", true, false}, {"2026-03-28T23:00:00Z", true, true}, {"2026-03-29T00:59:59Z", true, true},
		{"2026-03-29T01:00:00Z", true, true}, {"2026-03-29T03:59:59Z", true, true}, {"2026-03-29T04:00:00Z", false, true}, {"2026-03-29T21:00:00Z", false, true},
		{"2026-03-29T22:00:00Z", false, false}, {"2026-03-30T01:00:00Z", false, false}, {"2026-03-28T02:00:00Z", false, false},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil || night.contain(at) != c.night || whole.contain(at) != c.whole {
			t.Errorf("%s: night %v, whole day %v, %v", c.at, night.contain(at), whole.contain(at), err)
		}
	}
}
