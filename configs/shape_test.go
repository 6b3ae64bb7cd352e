package configs

import (
	"strings"
	"testing"
	"time"
)

func TestShape(t *testing.T) {
	n, err := Shape{RateIn: "50mbit", RateOut: "2mbps", Burst: "64kb", Delay: "20ms", Jitter: "5ms", Loss: "0.5%", Flows: 9}.Numbers()
	want := ShapeNumbers{RateIn: 50_000_000, RateOut: 16_000_000, Burst: 65536, Delay: 20 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.005, Flows: 9}
	if err != nil || n != want {
		t.Errorf("%+v, %v, want %+v", n, err, want)
	}
	for key, s := range map[string]Shape{"rate_in": {RateIn: "fast"}, "rate_out": {RateOut: "1bit"}, "burst": {Burst: "1"}, "delay": {Delay: "20"}, "jitter": {Jitter: "-1ms"},
		"loss": {Loss: "5"}, "flows": {Flows: -1}} {
		if _, err := s.Numbers(); err == nil || !strings.HasPrefix(err.Error(), key+": ") {
			t.Errorf("%+v: %v", s, err)
		}
	}
	for text, want := range map[string]int64{"1gbit": 1e9, "1.5Mbit": 1_500_000, "8000": 8000, "1kbps": 8000} {
		if got, err := ParseRate(text); err != nil || got != want {
			t.Errorf("%s is %d (%v)", text, got, err)
		}
	}
	s := Shape{RateIn: "1mbit", Flows: 5}.With(Shape{RateIn: "none", Delay: "1ms", Flows: -1})
	if s != (Shape{Delay: "1ms"}) {
		t.Errorf("changed: %+v", s)
	}
}
