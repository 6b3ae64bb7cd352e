package configs

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// FuzzLoad: whatever a file holds, it is refused line by line or means something that Show writes and Load reads again.
func FuzzLoad(f *testing.F) {
	for i := range uint8(3) {
		f.Add(i, []byte(nil), "")
	}
	f.Add(uint8(0), Sample(), "")
	f.Add(uint8(0), Demo(), "debug")
	f.Add(uint8(0), []byte(shown), "")
	f.Add(uint8(0), []byte("containers:\n  - &b {name: a, env: &e [A=1]}\n  - {<<: *b, name: c, env: *e}\n"), "")
	f.Add(uint8(1), []byte(`{"networks": [{"name": "a", "subnet": "10.0.0.0/8", "mtu": 1e3}], "host": {"loopback": [80]}}`), "")
	f.Add(uint8(2), []byte("log.level = 'warn'\n[[containers]]\nname = 'a'\n[[containers.networks]]\nname = \"bridge\"\nip = '172.17.0.2'\n"), "")
	f.Add(uint8(2), []byte("dns = {upstream = ['::1', \"\"\"x\"\"\"]}\n[limits]\nflows = 0x10\n"), "")
	f.Add(uint8(2), []byte("[\n"), "")     // the library's error holds the newline
	f.Add(uint8(0), []byte("'\u0085"), "") // a line break in YAML alone
	f.Fuzz(func(t *testing.T, format uint8, data []byte, level string) {
		name := "x." + []string{"yaml", "json", "toml"}[format%3]
		c, err := load(Options{Getenv: environ{"TAPSWITCH_LOG_LEVEL": level}.get}, name, data)
		if err == nil {
			if err := c.Validate(); err != nil {
				t.Errorf("loaded, but not valid: %v", err)
			}
			reload(t, name, c)
			return
		}
		joined, ok := err.(interface{ Unwrap() []error })
		if !ok {
			joined = errors.Join(err).(interface{ Unwrap() []error })
		}
		last := 1
		for _, end := range []string{"\n", "\r", "\u0085", "\u2028", "\u2029"} { // all of them YAML's
			last += bytes.Count(data, []byte(end))
		}
		if bytes.HasPrefix(data, []byte("\xfe\xff")) || bytes.HasPrefix(data, []byte("\xff\xfe")) { // UTF-16, YAML's too
			last = len(data)
		}
		for i, e := range joined.Unwrap() {
			var p *Problem
			switch {
			case i == maxProblems: // the count of the rest
			case !errors.As(e, &p) || p.Text == "":
				t.Errorf("%q is no Problem", e)
			case p.Line > last || p.Line < 0:
				t.Errorf("%q is in line %d of %d", e, p.Line, last)
			case strings.ContainsAny(e.Error(), "\n\r"):
				t.Errorf("%q is more than one line", e)
			}
		}
	})
}
