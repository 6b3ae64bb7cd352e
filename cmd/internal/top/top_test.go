package top

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"tapswitch/cmd/internal/api"
)

var update = flag.Bool("update", false, "write the screens in testdata anew")

// looks are seconds of a switch with n containers, of which the i-th receives
// i*1000 and sends i*500 bytes a second, more each second.
func looks(n, seconds int) (out []Look) {
	begin := time.Unix(1700000000, 0)
	for s := range seconds {
		l := Look{At: begin.Add(time.Duration(s) * time.Second), Status: api.Status{Containers: n, Flows: map[string]int{"tcp": 2, "udp": 1}, FDs: 30, FDLimit: 20000, UptimeSec: float64(3600 + s)}}
		for i := range n {
			b := uint64(i * s * (s + 1))
			l.Interfaces = append(l.Interfaces, api.InterfaceStats{Interface: fmt.Sprintf("c%d:eth0", i), Container: fmt.Sprintf("c%d", i), Network: "bridge", IfName: "eth0",
				Stats: api.Stats{RxBytes: b * 1000, TxBytes: b * 500, RxFrames: b, TxFrames: b / 2}})
		}
		if n > 1 {
			l.Interfaces[1].Drops = map[string]uint64{"isolated": uint64(3 * s)}
			l.Interfaces = append(l.Interfaces, api.InterfaceStats{Interface: "c1:eth1", Container: "c1", Network: "lab", IfName: "eth1", Stats: api.Stats{RxBytes: uint64(s) * 125e6}})
		}
		l.Flows = []api.Flow{
			{Protocol: "tcp", Container: "c1:eth0", Local: "172.17.0.2:40000", Remote: "198.51.100.7:443", HostLocal: "192.0.2.1:51000", HostPeer: "198.51.100.7:443", State: "established", AgeSec: 75, RxBytes: uint64(s) * 1e6, RxPackets: uint64(s)},
			{Protocol: "udp", Container: "c0:eth0", Local: "172.17.0.3:5353", Remote: "192.0.2.53:53", HostLocal: "192.0.2.1:5353", HostPeer: "192.0.2.53:53", State: "assured", AgeSec: float64(s), TxBytes: uint64(s) * 100},
		}
		out = append(out, l)
	}
	return out
}

func after(list []Look) *Top {
	t := New()
	for _, l := range list {
		t.Take(l)
	}
	return t
}

var steering = regexp.MustCompile("\x1b\\[[0-9;]*m")

// The screen at sizes from a wall to a stamp is what stands in testdata.
func TestScreens(t *testing.T) {
	for _, c := range []struct {
		name  string
		w, h  int
		view  View
		style Style
	}{
		{"containers-80x24", 80, 24, Containers, Style{Keys: true}},
		{"containers-80x24-colour", 80, 24, Containers, Style{Colour: true, Keys: true}},
		{"containers-40x10-ascii", 40, 10, Containers, Style{ASCII: true, Keys: true}},
		{"containers-18x5", 18, 5, Containers, Style{}},
		{"flows-120x12", 120, 12, Flows, Style{Keys: true}},
		{"flows-80x24", 80, 24, Flows, Style{Keys: true}},
		{"flows-40x6", 40, 6, Flows, Style{Keys: true}},
		{"containers-table", 120, 0, Containers, Style{ASCII: true}},
	} {
		top := after(looks(30, 12))
		top.View = c.view
		top.sort()
		got := strings.Join(top.Render(c.w, c.h, c.style), "\n") + "\n"
		file := "testdata/" + c.name + ".txt"
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if want, err := os.ReadFile(file); err != nil || string(want) != got {
			t.Errorf("%s differs (%v): go test ./cmd/internal/top -update writes it anew; look at it then\n%s", file, err, got)
		}
	}
}

// No screen is larger than the terminal, whatever the size, the state and the
// names.
func TestScreenFits(t *testing.T) {
	list := looks(7, 3)
	for i := range list {
		list[i].Interfaces[3].Container = "ünï" + strings.Repeat("x", 90)
		list[i].Interfaces[4].Container = "a\x1b[2Jb\u009b2J"
		list[i].Flows[0].State = "\r\n\x1b"
	}
	for _, top := range []*Top{New(), after(list[:1]), after(list)} {
		for _, view := range []View{Containers, Flows} {
			for _, style := range []Style{{}, {Colour: true, Keys: true}, {ASCII: true, Keys: true}} {
				for w := 1; w < 130; w += 1 + w/8 {
					for h := 1; h < 30; h += 1 + h/6 {
						top.View = view
						lines := top.Render(w, h, style)
						if len(lines) > h {
							t.Fatalf("%dx%d: %d lines", w, h, len(lines))
						}
						for _, l := range lines {
							plain := steering.ReplaceAllString(l, "")
							if n := utf8.RuneCountInString(plain); n > max(w, 25) || strings.ContainsAny(plain, "\x1b\r\n\u009b") || !style.Colour && plain != l {
								t.Fatalf("%dx%d: line of %d: %q", w, h, n, l)
							}
						}
					}
				}
			}
		}
	}
}

func TestRates(t *testing.T) {
	top := after(looks(3, 2))
	rows := top.Rows()
	if rows[0].Name != "c1" || rows[0].Networks != "bridge,lab" || rows[0].RxBits != 8*(2000+125e6) || rows[0].TxBits != 8*1000 || rows[0].Packets != 3 || rows[0].Drops != 3 {
		t.Errorf("first row: %+v", rows[0])
	}
	// A container that leaves takes its past along; one that comes by its name begins anew.
	l := looks(3, 3)[2]
	l.Interfaces = l.Interfaces[:1]
	top.Take(l)
	if len(top.Rows()) != 1 || len(top.past) != 3 { // with those of two flows
		t.Errorf("%d rows, %d pasts", len(top.Rows()), len(top.past))
	}
	again := looks(3, 1)[0]
	again.At = l.At.Add(time.Second)
	top.Take(again)
	for _, r := range top.Rows() {
		if r.RxBits != 0 || r.Drops != 0 {
			t.Errorf("a counter that began anew has a rate: %+v", r)
		}
	}
}

func TestKeys(t *testing.T) {
	top := after(looks(30, 3))
	first := func() string { return top.Rows()[0].Name }
	for _, c := range []struct {
		keys, first string
		skip        int
		view        View
	}{
		{"5", "c0", 0, Containers},
		{"r", "c9", 0, Containers},
		{"2", "c1", 0, Containers},
		{"3", "c29", 0, Containers},
		{"4", "c1", 0, Containers},
		{"s", "c0", 0, Containers},
		{"s", "c1", 0, Containers},
		{Down + Down + Up, "c1", 1, Containers},
		{"jjk", "c1", 2, Containers},
		{PageDown, "c1", 12, Containers},
		{End, "c1", 20, Containers},
		{PageDown, "c1", 20, Containers},
		{PageUp, "c1", 10, Containers},
		{"\x1bOH", "c1", 0, Containers},
		{Up, "c1", 0, Containers},
		{"f", "c1", 0, Flows},
		{"3", "c0", 0, Flows},
		{"4", "c1", 0, Flows},
		{"\t", "c1", 0, Containers},
		{"\x1b[38;5;1x?!\x1b", "c1", 0, Containers},
		{Left + Left, "c1", 0, Containers},
		{Right + Right + Right, "c0", 0, Containers},
	} {
		for _, k := range splitKeys(c.keys) {
			if top.Key(k, 10) {
				t.Errorf("%q ends it", c.keys)
			}
		}
		if first() != c.first || top.Skip != c.skip || top.View != c.view {
			t.Errorf("after %q: first %s, %d above, view %d, want %s, %d, %d", c.keys, first(), top.Skip, top.View, c.first, c.skip, c.view)
		}
	}
	if !top.Key("q", 10) || !top.Key("\x03", 10) {
		t.Error("q and ^C do not end it")
	}
}

func TestNumbers(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.04: "0", 0.5: "0.5", 3: "3", 9.96: "10", 12.4: "12", 999: "999", 999.9: "1.0k", 1234: "1.2k", 99_960: "100k", 1e6: "1.0M", 999_999: "1.0M", 12.5e9: "12.5G", 3e14: "300.0T"} {
		if got := si(v); got != want || len(got) > 6 {
			t.Errorf("si(%v) = %s, want %s", v, got, want)
		}
	}
	for v, want := range map[float64]string{0: "0s", 59.9: "59s", 61: "1m01", 3661: "1h01", 99 * 3600: "99h00", 100 * 3600: "4d", 3e8: "3472d"} {
		if got := age(v); got != want {
			t.Errorf("age(%v) = %s, want %s", v, got, want)
		}
	}
	for want, past := range map[string][]float64{"    ": nil, "  █▅": {2, 1}, " ▁█ ": {0.001, 5, 0}, "▂▃▅█": {9, 1, 2, 4, 8}} {
		if got := spark(past, 4, false); got != want {
			t.Errorf("spark(%v) = %q, want %q", past, got, want)
		}
	}
	if got := spark([]float64{0, 1, 8}, 4, true); got != "  :@" {
		t.Errorf("spark in ASCII: %q", got)
	}
}

// Whatever a terminal sends is taken apart without loss of what is plain.
func FuzzKeys(f *testing.F) {
	for _, s := range []string{"q", Up + "q", "\x1b", "\x1b[", "\x1bO", "\x1b[5~\x1b[1;5Aé", "\x00\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		keys := splitKeys(s)
		if got := strings.Join(keys, ""); len(got) != len(s) {
			t.Errorf("%q became %q", s, keys)
		}
		top := after(looks(3, 2))
		for _, k := range keys {
			top.Key(k, 1)
		}
		top.Render(20, 10, Style{})
	})
}
