package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"tapswitch/switch/ns"
)

func TestEchoRequest(t *testing.T) {
	for _, c := range []struct {
		id   uint16
		want []byte
	}{
		{0x1234, []byte{8, 0, 0xe5, 0xca, 0x12, 0x34, 0, 1}},
		{0xffff, []byte{8, 0, 0xf7, 0xfe, 0xff, 0xff, 0, 1}},
		{0xf7fe, []byte{8, 0, 0, 0, 0xf7, 0xfe, 0, 1}},
	} {
		if got := echoRequest(c.id); !bytes.Equal(got, c.want) {
			t.Errorf("id %#x: % x, want % x", c.id, got, c.want)
		}
	}
}

func TestIsEchoReply(t *testing.T) {
	header := func(words byte, length int) []byte { return append([]byte{0x40 | words}, make([]byte, length-1)...) }
	reply := []byte{0, 0, 0xed, 0xca, 0x12, 0x34, 0, 1}
	for _, c := range []struct {
		name   string
		packet []byte
		want   bool
	}{
		{"a reply", append(header(5, 20), reply...), true},
		{"with IP options", append(header(6, 24), reply...), true},
		{"a request", append(header(5, 20), 8, 0, 0xe5, 0xca, 0x12, 0x34, 0, 1), false},
		{"unreachable", append(header(5, 20), 3, 0, 0xed, 0xca, 0x12, 0x34, 0, 1), false},
		{"of someone else", append(header(5, 20), 0, 0, 0, 0, 0x12, 0x35, 0, 1), false},
		{"cut", append(header(5, 20), reply[:7]...), false},
		{"options beyond its end", append(header(15, 20), reply...), false},
		{"no header", []byte{0x45}, false},
		{"nothing", nil, false},
	} {
		if got := isEchoReply(c.packet, 0x1234); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestPingOfLoopback(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_ICMP)
	if errors.Is(err, unix.EPERM) {
		t.Skip("needs CAP_NET_RAW")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	before := monotonic()
	at, err := awaitPing(fd, netip.MustParseAddr("127.0.0.1"))
	if after := monotonic(); err != nil || at < before || at > after {
		t.Errorf("answered at %d, %v; asked at %d, and it is %d", at, err, before, after)
	}
}

func TestReservedDevice(t *testing.T) {
	const good = `{"id": "r", "interfaces": [{"name": "eth0", "mac": "02:42:ac:11:00:04", "mtu": 1500,
		"addrs": ["172.17.0.4/16"], "gateway": "172.17.0.1", "offload": true}]}`
	answers := serveAnswers(t, answer{200, good}, answer{200, `{"interfaces": []}`},
		answer{200, strings.Replace(good, "172.17.0.4/16", "172.17.0.4", 1)})
	for _, wrong := range []string{"", "of 0 interfaces", "172.17.0.4"} {
		var r reservation
		if err := answers.post(t.Context(), "/v1/reservations", map[string]any{"name": "x"}, &r); err != nil {
			t.Fatal(err)
		}
		got, err := r.device()
		if wrong != "" {
			if err == nil || !strings.Contains(err.Error(), wrong) {
				t.Errorf("error %v, want one with %q", err, wrong)
			}
			continue
		}
		want := ns.Interface{Name: "eth0", MAC: net.HardwareAddr{2, 0x42, 0xac, 0x11, 0, 4}, MTU: 1500, Offload: true,
			Addrs: []netip.Prefix{netip.MustParsePrefix("172.17.0.4/16")}, Gateway: netip.MustParseAddr("172.17.0.1")}
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%+v, %v; want %+v", got, err, want)
		}
	}
}

func TestControlSaysWhatWasRefused(t *testing.T) {
	err := serveAnswers(t, answer{409, `{"error": {"message": "the name is taken"}}`}).post(t.Context(), "/v1/ports", nil, nil)
	if err == nil || !strings.Contains(err.Error(), "409") || !strings.Contains(err.Error(), "the name is taken") {
		t.Errorf("error %v", err)
	}
	if err := (control{filepath.Join(t.TempDir(), "none")}).post(t.Context(), "/v1/ports", nil, nil); !errors.Is(err, unix.ENOENT) {
		t.Errorf("without a switch: %v", err)
	}
}

func TestControlPassesDescriptors(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	served := make(chan error, 1)
	go func() { served <- writeToPassed(l, "hello") }()
	if err := (control{socket}).post(t.Context(), "/v1/ports", nil, nil, int(w.Fd())); err != nil {
		t.Error(err)
	}
	w.Close()
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 16)
	if n, err := r.Read(buf); string(buf[:n]) != "hello" {
		t.Errorf("through the descriptor came %q, %v", buf[:n], err)
	}
}

// writeToPassed takes one request and writes to the descriptor that comes with it.
func writeToPassed(l *net.UnixListener, text string) error {
	conn, err := l.AcceptUnix()
	if err != nil {
		return err
	}
	defer conn.Close()
	buf, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, on, _, _, err := conn.ReadMsgUnix(buf, oob)
	if err != nil {
		return err
	}
	if on != len(oob) {
		return fmt.Errorf("%d bytes of control data", on)
	}
	fd := int(binary.NativeEndian.Uint32(oob[unix.CmsgLen(0):]))
	defer unix.Close(fd)
	_, err1 := unix.Write(fd, []byte(text))
	_, err2 := conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"))
	return errors.Join(err1, err2)
}

type answer struct {
	status int
	body   string
}

// serveAnswers is a switch that gives these answers, one after the other.
func serveAnswers(t *testing.T, answers ...answer) control {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	next := make(chan answer, len(answers))
	for _, a := range answers {
		next <- a
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := <-next
		w.WriteHeader(a.status)
		io.WriteString(w, a.body)
	})}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return control{socket}
}
