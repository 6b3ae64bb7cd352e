package forward

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestParseResolv(t *testing.T) {
	for _, tt := range []struct {
		name, in  string
		upstreams []string
		search    []string
	}{
		{"empty", "", nil, nil},
		{"one", "nameserver 1.1.1.1\n", []string{"1.1.1.1:53"}, nil},
		{"no newline at the end", "nameserver 1.1.1.1", []string{"1.1.1.1:53"}, nil},
		{"order", "nameserver 9.9.9.9\nnameserver 1.1.1.1\n", []string{"9.9.9.9:53", "1.1.1.1:53"}, nil},
		{"loopback is the host's", "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n", []string{"127.0.0.53:53"}, nil},
		{"IPv6", "nameserver 2001:db8::1\nnameserver fe80::1%eth0\n", []string{"[2001:db8::1]:53", "[fe80::1%eth0]:53"}, nil},
		{"zone without meaning", "nameserver 2001:db8::1%eth0\n", []string{"[2001:db8::1]:53"}, nil},
		{"mapped", "nameserver ::ffff:1.1.1.1\n", []string{"1.1.1.1:53"}, nil},
		{"comments", "# nameserver 1.1.1.1\n;nameserver 2.2.2.2\n#nameserver 3.3.3.3\nnameserver 4.4.4.4 # main\n", []string{"4.4.4.4:53"}, nil},
		{"garbage", "nameserver\nnameserver dns.example\nnameserver 1.1.1\nNAMESERVER 1.1.1.1\n\x00\xff\nnameserver 4.4.4.4\n", []string{"4.4.4.4:53"}, nil},
		{"CRLF and tabs", "nameserver\t1.1.1.1\r\nsearch\ta\tb\r\n", []string{"1.1.1.1:53"}, []string{"a", "b"}},
		{"search", "search corp.example example.\n", nil, []string{"corp.example", "example"}},
		{"domain", "domain corp.example other\n", nil, []string{"corp.example"}},
		{"last wins", "search a b\ndomain c\n", nil, []string{"c"}},
		{"last wins, the other way", "domain c\nsearch a b # why\n", nil, []string{"a", "b"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := parseResolv([]byte(tt.in))
			var got []string
			for _, u := range c.upstreams {
				got = append(got, u.String())
			}
			if !slices.Equal(got, tt.upstreams) {
				t.Errorf("upstreams %v, want %v", got, tt.upstreams)
			}
			if !slices.Equal(c.search, tt.search) {
				t.Errorf("search %v, want %v", c.search, tt.search)
			}
		})
	}
}

// clock stands still until it is moved.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func setTime(t *testing.T, path string, mtime time.Time) {
	t.Helper()
	if err := os.Chtimes(path, mtime, mtime); err != nil {
		t.Fatal(err)
	}
}

func expectUpstreams(t *testing.T, r *Resolv, what string, want ...string) {
	t.Helper()
	var got []string
	for _, u := range r.Upstreams() {
		got = append(got, u.Addr().String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: upstreams %v, want %v", what, got, want)
	}
}

func TestResolvFollows(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "resolv.conf")
	c := &clock{t: time.Unix(1_000_000, 0)}
	r := NewResolv(path, c.now)

	expectUpstreams(t, r, "no file")
	writeFile(t, path, "nameserver 1.1.1.1\nsearch a\n")
	c.add(999 * time.Millisecond)
	expectUpstreams(t, r, "before a second is over")
	c.add(time.Millisecond)
	expectUpstreams(t, r, "file appeared", "1.1.1.1")
	if got := r.Search(); !slices.Equal(got, []string{"a"}) {
		t.Errorf("search %v, want [a]", got)
	}

	// Each of the three that tell one content from another, alone.
	touched := time.Unix(500_000, 0)
	old := touched.Add(time.Second)
	setTime(t, path, touched)
	c.add(time.Second)
	expectUpstreams(t, r, "touched only", "1.1.1.1")
	for _, change := range []struct {
		what, ip string
		do       func(content string)
	}{
		{"mtime", "1.1.1.2", func(s string) {
			writeFile(t, path, s)
			setTime(t, path, old)
		}},
		{"size", "1.1.1.13", func(s string) {
			writeFile(t, path, s)
			setTime(t, path, old)
		}},
		{"inode", "1.1.1.14", func(s string) {
			writeFile(t, path+".new", s)
			setTime(t, path+".new", old)
			if err := os.Rename(path+".new", path); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		change.do("nameserver " + change.ip + "\nsearch a\n")
		c.add(time.Second)
		expectUpstreams(t, r, change.what, change.ip)
	}

	// The same state is not read again: a content that hides behind it shows.
	writeFile(t, path, "nameserver 1.1.1.15\nsearch a\n")
	setTime(t, path, old)
	c.add(time.Second)
	expectUpstreams(t, r, "same state", "1.1.1.14")

	// A clock that was set back does not freeze it.
	writeFile(t, path, "nameserver 1.1.1.100\n")
	c.add(-time.Hour)
	expectUpstreams(t, r, "clock set back", "1.1.1.100")

	// A symbolic link is followed to its target.
	target := filepath.Join(dir, "target")
	writeFile(t, target, "nameserver 2.2.2.2\n")
	os.Remove(path)
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
	c.add(time.Second)
	expectUpstreams(t, r, "symlink", "2.2.2.2")

	os.Remove(target)
	c.add(time.Second)
	expectUpstreams(t, r, "file gone")
	if got := r.Search(); len(got) != 0 {
		t.Errorf("search %v after the file is gone", got)
	}
	writeFile(t, target, "nameserver 2.2.2.2\n")
	c.add(time.Second)
	expectUpstreams(t, r, "file back", "2.2.2.2")
}

func TestResolvOddFiles(t *testing.T) {
	dir := t.TempDir()
	c := &clock{t: time.Unix(1_000_000, 0)}

	expectUpstreams(t, NewResolv(dir, c.now), "a directory")

	// Opened, this would wait for a writer for ever.
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	expectUpstreams(t, NewResolv(fifo, c.now), "a FIFO")

	big := filepath.Join(dir, "big")
	writeFile(t, big, "nameserver 1.1.1.1\n#"+strings.Repeat("x", resolvMaxSize)+"\nnameserver 2.2.2.2\n")
	expectUpstreams(t, NewResolv(big, c.now), "a file beyond the limit", "1.1.1.1")
}

func TestResolvOwnership(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	writeFile(t, path, "nameserver 1.1.1.1\nsearch a\n")
	r := NewResolv(path, nil)
	r.Upstreams()[0] = netip.AddrPort{}
	r.Search()[0] = "spoilt"
	expectUpstreams(t, r, "after the caller wrote into its slice", "1.1.1.1")
	if got := r.Search(); got[0] != "a" {
		t.Errorf("search %v, want [a]", got)
	}
}

// TestResolvConcurrent is for the race detector; a reader sees one content or
// another, never a mixture.
func TestResolvConcurrent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	c := &clock{t: time.Unix(1_000_000, 0)}
	r := NewResolv(path, c.now)
	replace := func(i int) {
		writeFile(t, path+".new", fmt.Sprintf("nameserver 10.0.0.%d\nnameserver 10.0.1.%d\n", i, i))
		if err := os.Rename(path+".new", path); err != nil {
			t.Error(err)
		}
	}
	replace(0)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				c.add(300 * time.Millisecond)
				up := r.Upstreams()
				if len(up) != 2 || up[0].Addr().As4()[3] != up[1].Addr().As4()[3] {
					t.Errorf("upstreams %v", up)
					return
				}
			}
		})
	}
	for i := range 200 {
		replace(i)
	}
	close(done)
	wg.Wait()
	c.add(time.Second)
	expectUpstreams(t, r, "at the end", "10.0.0.199", "10.0.1.199")
}

func FuzzParseResolv(f *testing.F) {
	f.Add([]byte("nameserver 1.1.1.1\nsearch a b.\noptions ndots:0\n"))
	f.Add([]byte("domain .\nnameserver fe80::1%eth0\r\n#x\n;y\nsearch # z"))
	f.Add([]byte("nameserver ::ffff:1.2.3.4\x00\nsearch \xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c := parseResolv(data)
		for _, u := range c.upstreams {
			if !u.IsValid() || u.Port() != 53 || u.Addr().Is4In6() || u.Addr().Zone() != "" && !u.Addr().IsLinkLocalUnicast() {
				t.Errorf("upstream %v", u)
			}
		}
		for _, s := range c.search {
			if s == "" || strings.ContainsAny(s, " \t\r\n") {
				t.Errorf("search domain %q", s)
			}
		}
		// What was understood, written out, is understood again.
		var b strings.Builder
		for _, u := range c.upstreams {
			fmt.Fprintf(&b, "nameserver %s\n", u.Addr())
		}
		if len(c.search) > 0 {
			fmt.Fprintf(&b, "search %s\n", strings.Join(c.search, " "))
		}
		again := parseResolv([]byte(b.String()))
		if !slices.Equal(again.upstreams, c.upstreams) {
			t.Errorf("%v reads again as %v", c.upstreams, again.upstreams)
		}
	})
}
