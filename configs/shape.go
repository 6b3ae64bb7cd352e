package configs

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Shape is what a container's interfaces are held to, as people write it. What
// is empty is no limit.
type Shape struct {
	RateIn  string `json:"rate_in,omitempty"`  // to the container, as tc writes it: 50mbit, 1gbit, 2mbps
	RateOut string `json:"rate_out,omitempty"` // from it
	Burst   string `json:"burst,omitempty"`    // that may pass at once, each way: 64kb
	Delay   string `json:"delay,omitempty"`    // of what it sends: 20ms
	Jitter  string `json:"jitter,omitempty"`   // of the delay, more or less
	Loss    string `json:"loss,omitempty"`     // of what it sends: 1%
	Flows   int    `json:"flows,omitempty"`    // at a time
}

// Limits of a Shape in numbers.
type ShapeNumbers struct {
	RateIn, RateOut int64 // bits per second
	Burst           int64 // bytes
	Delay, Jitter   time.Duration
	Loss            float64 // from 0 to 1
	Flows           int
}

var rateUnits = []struct {
	name string
	bits float64
}{ // tc(8), PARAMETERS; the longer of two names first
	{"tbps", 8e12}, {"gbps", 8e9}, {"mbps", 8e6}, {"kbps", 8e3}, {"bps", 8}, {"tbit", 1e12}, {"gbit", 1e9}, {"mbit", 1e6}, {"kbit", 1e3}, {"bit", 1},
}

// ParseRate reads a rate as tc writes it, in bits per second.
func ParseRate(s string) (int64, error) {
	text := strings.ToLower(strings.TrimSpace(s))
	factor := 1.0
	for _, u := range rateUnits {
		if t, ok := strings.CutSuffix(text, u.name); ok {
			text, factor = t, u.bits
			break
		}
	}
	x, err := strconv.ParseFloat(text, 64)
	if bits := x * factor; err == nil && bits >= 8000 && bits <= 1e13 {
		return int64(bits), nil
	}
	return 0, fmt.Errorf("%s is no rate; write one from 8kbit up, as 50mbit or 1gbit", quote(s))
}

// ParseSize reads a number of bytes: 64kb, 1mb, 1500.
func ParseSize(s string) (int64, error) {
	text, factor := strings.ToLower(strings.TrimSpace(s)), 1.0
	for _, u := range []struct {
		name  string
		bytes float64
	}{{"gb", 1 << 30}, {"mb", 1 << 20}, {"kb", 1 << 10}, {"g", 1 << 30}, {"m", 1 << 20}, {"k", 1 << 10}, {"b", 1}} {
		if t, ok := strings.CutSuffix(text, u.name); ok {
			text, factor = t, u.bytes
			break
		}
	}
	x, err := strconv.ParseFloat(text, 64)
	if n := x * factor; err == nil && n >= 1500 && n <= 1<<30 {
		return int64(n), nil
	}
	return 0, fmt.Errorf("%s is no size; write one from 1500 bytes to 1gb, as 64kb", quote(s))
}

// Numbers reads the shape, or says what is wrong with it, the key first.
func (s Shape) Numbers() (n ShapeNumbers, err error) {
	for _, r := range []struct {
		key, text string
		to        *int64
		read      func(string) (int64, error)
	}{{"rate_in", s.RateIn, &n.RateIn, ParseRate}, {"rate_out", s.RateOut, &n.RateOut, ParseRate}, {"burst", s.Burst, &n.Burst, ParseSize}} {
		if r.text == "" {
			continue
		}
		if *r.to, err = r.read(r.text); err != nil {
			return n, fmt.Errorf("%s: %w", r.key, err)
		}
	}
	for _, d := range []struct {
		key, text string
		to        *time.Duration
	}{{"delay", s.Delay, &n.Delay}, {"jitter", s.Jitter, &n.Jitter}} {
		if d.text == "" {
			continue
		}
		if *d.to, err = time.ParseDuration(d.text); err != nil || *d.to < 0 || *d.to > time.Minute {
			return n, fmt.Errorf("%s: %s is no time up to a minute; write one, as 20ms", d.key, quote(d.text))
		}
	}
	if s.Loss != "" {
		x, e := strconv.ParseFloat(strings.TrimSuffix(s.Loss, "%"), 64)
		if e != nil || !strings.HasSuffix(s.Loss, "%") || x < 0 || x > 100 {
			return n, fmt.Errorf("loss: %s is no part of a hundred; write one, as 1%%", quote(s.Loss))
		}
		n.Loss = x / 100
	}
	if n.Flows = s.Flows; n.Flows < 0 || n.Flows > maxLimit {
		return n, fmt.Errorf("flows: %d is out of range; write 1 to %d", s.Flows, maxLimit)
	}
	return n, nil
}

// With is s with what is set in o.
func (s Shape) With(o Shape) Shape {
	for _, x := range []struct{ to, from *string }{{&s.RateIn, &o.RateIn}, {&s.RateOut, &o.RateOut}, {&s.Burst, &o.Burst}, {&s.Delay, &o.Delay}, {&s.Jitter, &o.Jitter}, {&s.Loss, &o.Loss}} {
		switch *x.from {
		case "":
		case "none":
			*x.to = ""
		default:
			*x.to = *x.from
		}
	}
	if o.Flows != 0 {
		s.Flows = max(o.Flows, 0) // -1 takes the limit away
	}
	return s
}

var shapeFields = []field[Shape]{
	{"rate_in", func(d *decoder, at value, s *Shape) { s.RateIn, _ = d.text(at) }},
	{"rate_out", func(d *decoder, at value, s *Shape) { s.RateOut, _ = d.text(at) }},
	{"burst", func(d *decoder, at value, s *Shape) { s.Burst, _ = d.text(at) }},
	{"delay", func(d *decoder, at value, s *Shape) { s.Delay, _ = d.text(at) }},
	{"jitter", func(d *decoder, at value, s *Shape) { s.Jitter, _ = d.text(at) }},
	{"loss", func(d *decoder, at value, s *Shape) { s.Loss, _ = d.text(at) }},
	{"flows", func(d *decoder, at value, s *Shape) { s.Flows, _ = d.integer(at, 1, maxLimit) }},
}
