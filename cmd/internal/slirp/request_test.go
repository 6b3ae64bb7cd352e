package slirp

import (
	"encoding/json"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/face"
)

// without is an API whose switch has ended: what it would publish fails.
func without() *hostfwds {
	return &hostfwds{sw: new(face.Switch), n: networkOf(netip.MustParsePrefix("10.0.2.0/24"))}
}

func text(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestErrorTexts(t *testing.T) {
	h := without()
	for request, want := range map[string]string{
		`{`:                            "cannot parse JSON",
		`[]`:                           "json_object() failed",
		`{}`:                           "no execute found",
		`{"execute":7}`:                "no execute found",
		`{"execute":"dance"}`:          "unknown execute",
		`{"execute":"add_hostfwd"}`:    "add_hostfwd: bad arguments.proto",
		`{"execute":"remove_hostfwd"}`: "remove_hostfwd: bad arguments.id",
		`{"execute":"remove_hostfwd","arguments":{"id":1}}`:                                                                              "remove_hostfwd: bad arguments.id",
		`{"execute":"add_hostfwd","arguments":{"proto":"sctp","host_port":1,"guest_port":1}}`:                                            "add_hostfwd: bad arguments.proto",
		`{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_addr":"x","host_port":1,"guest_port":1}}`:                             "add_hostfwd: bad arguments.host_addr",
		`{"execute":"add_hostfwd","arguments":{"proto":"tcp6","host_addr":"0.0.0.0","host_port":1,"guest_port":1}}`:                      "add_hostfwd: bad arguments.host_addr",
		`{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_port":0,"guest_port":1}}`:                                             "add_hostfwd: bad arguments.host_port",
		`{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_port":65536,"guest_port":1}}`:                                         "add_hostfwd: bad arguments.host_port",
		`{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_port":"80","guest_port":1}}`:                                          "add_hostfwd: bad arguments.host_port",
		`{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_port":80,"guest_addr":"x","guest_port":1}}`:                           "add_hostfwd: bad arguments.guest_addr",
		`{"execute":"add_hostfwd","arguments":{"proto":"udp","host_port":80}}`:                                                           "add_hostfwd: bad arguments.guest_port",
		`{"execute":"add_hostfwd","arguments":{"proto":"udp","host_port":80,"host_port_end":79,"guest_port":80}}`:                        "add_hostfwd: bad arguments.host_port_end",
		`{"execute":"add_hostfwd","arguments":{"proto":"udp","host_port":80,"host_port_end":90,"guest_port":65530}}`:                     "add_hostfwd: bad arguments.guest_port",
		`{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_addr":"127.0.0.1","host_port":8080,"guest_addr":"","guest_port":80}}`: "add_hostfwd: slirp_add_hostfwd failed",
	} {
		if got := text(t, h.answer([]byte(request))); got != `{"error":{"desc":"bad request: `+want+`"}}` {
			t.Errorf("%s: %s, want %q", request, got, want)
		}
	}
	if got := text(t, h.answer([]byte(`{"execute":"list_hostfwd"}`))); got != `{"entries":[],"return":{"entries":[]}}` {
		t.Errorf("an empty list: %s", got)
	}
}

func TestArguments(t *testing.T) {
	n := networkOf(netip.MustParsePrefix("10.0.2.0/24"))
	for args, want := range map[string]string{
		`{"proto":"tcp","host_port":8080,"guest_port":80}`:                                                     "0.0.0.0:8080:80/tcp 10.0.2.100 -",
		`{"proto":"udp","host_addr":"127.0.0.1","host_port":53,"guest_addr":"10.0.2.100","guest_port":5353.9}`: "127.0.0.1:53:5353/udp 10.0.2.100 -",
		`{"proto":"tcp","host_addr":"","host_port":8080,"guest_addr":"10.0.2.15","guest_port":80}`:             "0.0.0.0:8080:80/tcp 10.0.2.15 10.0.2.15",
		`{"proto":"tcp6","host_port":8080,"guest_port":80}`:                                                    "[::]:8080:80/tcp 10.0.2.100 -",
		`{"proto":"udp4","host_port":8080,"guest_port":80}`:                                                    "0.0.0.0:8080:80/udp 10.0.2.100 -",
		`{"proto":"tcp","host_addr":"::1","host_port":8080,"guest_addr":"fd00::7","guest_port":80}`:            "[::1]:8080:80/tcp fd00::7 fd00::7",
		`{"proto":"tcp","host_port":8000,"host_port_end":8010,"guest_port":80}`:                                "0.0.0.0:8000-8010:80-90/tcp 10.0.2.100 -",
		`{"proto":"tcp","host_port":8000,"host_port_end":8000,"guest_port":80}`:                                "0.0.0.0:8000:80/tcp 10.0.2.100 -",
	} {
		var m map[string]any
		if err := json.Unmarshal([]byte(args), &m); err != nil {
			t.Fatal(err)
		}
		e, bad := entryOf(m, n)
		if bad != "" {
			t.Errorf("%s: bad %s", args, bad)
			continue
		}
		to := "-"
		if e.to.IsValid() {
			to = e.to.String()
		}
		if got := e.spec() + " " + e.GuestAddr.String() + " " + to; got != want {
			t.Errorf("%s: %s, want %s", args, got, want)
		}
	}
}

// A request may come in pieces; its end is where it is whole, where it can be
// none any more, or where the client has closed its side.
func TestReceive(t *testing.T) {
	for _, c := range []struct {
		name   string
		pieces []string
		close  bool
		want   string
		whole  bool
	}{
		{"whole", []string{`{"execute":"list_hostfwd"}`}, false, `{"execute":"list_hostfwd"}`, true},
		{"with a newline", []string{"{}\n"}, false, "{}\n", true},
		{"in pieces", []string{`{"exe`, `cute":`, `1}`}, false, `{"execute":1}`, true},
		{"no JSON", []string{"hello"}, false, "hello", true},
		{"half, closed", []string{`{"exe`}, true, `{"exe`, true},
		{"nothing, closed", nil, true, "", true},
		{"too long", []string{strings.Repeat(" ", maxRequest)}, false, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, server := pair(t)
			go func() {
				for _, p := range c.pieces {
					client.Write([]byte(p))
				}
				if c.close {
					client.CloseWrite()
				}
			}()
			got, whole := receive(server)
			if string(got) != c.want || whole != c.whole {
				t.Errorf("%q, %v; want %q, %v", got, whole, c.want, c.whole)
			}
		})
	}
}

func pair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: t.TempDir() + "/s", Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr)); err != nil {
		t.Fatal(err)
	}
	if b, err = l.AcceptUnix(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// Only a socket gives way.
func TestFree(t *testing.T) {
	dir := t.TempDir()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: dir + "/stale"}); err != nil {
		t.Fatal(err)
	}
	if err := free(dir + "/stale"); err != nil {
		t.Errorf("a socket that was left: %v", err)
	}
	if err := free(dir + "/stale"); err != nil {
		t.Errorf("nothing: %v", err)
	}
	if err := free(dir); err == nil {
		t.Error("a directory was removed")
	}
}

// FuzzRequest: each request has one answer, with a result or an error.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"execute":"add_hostfwd","arguments":{"proto":"tcp","host_addr":"0.0.0.0","host_port":8080,"guest_addr":"10.0.2.100","guest_port":80}}`))
	f.Add([]byte(`{"execute":"list_hostfwd"}`))
	f.Add([]byte(`{"execute":"remove_hostfwd","arguments":{"id":1}}`))
	h := without()
	f.Fuzz(func(t *testing.T, b []byte) {
		var a struct {
			Return any `json:"return"`
			Error  *struct {
				Desc string `json:"desc"`
			} `json:"error"`
		}
		if err := json.Unmarshal([]byte(text(t, h.answer(b))), &a); err != nil || (a.Return == nil) == (a.Error == nil) || a.Error != nil && !strings.HasPrefix(a.Error.Desc, "bad request: ") {
			t.Errorf("%q: %+v, %v", b, a, err)
		}
	})
}
