package capture

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/google/gopacket/pcapgo"
)

// written is a small file, and its packets.
func written(t testing.TB) ([]byte, []Packet) {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b, "test", 100)
	web, db := w.Interface(Interface{Name: "web:eth0", Description: "web on bridge", MAC: []byte{2, 1, 2, 3, 4, 5}, Addrs: []netip.Prefix{netip.MustParsePrefix("172.17.0.2/16"), netip.MustParsePrefix("fd00:17::2/64")}, Filter: "tcp"}), w.Interface(Interface{Name: "db:eth0"})
	w.Name(netip.MustParseAddr("172.17.0.2"), "web.bridge")
	w.Name(netip.MustParseAddr("fd00:17::2"), "web.bridge")
	list := []Packet{
		{Interface: web, Time: time.Unix(1700000000, 123456789), Received: true, Length: 61, Data: bytes.Repeat([]byte{7}, 61), Comment: "forwarded to db:eth0"},
		{Interface: db, Time: time.Unix(1700000001, 1), Length: 1500, Data: make([]byte, 100)},
	}
	for i := range list {
		w.Packet(&list[i])
	}
	w.Missed(web, 5, time.Unix(1700000002, 0))
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), list
}

// What is written is read again, by us and by others.
func TestPcapng(t *testing.T) {
	file, want := written(t)
	r := NewReader(bytes.NewReader(file))
	for i, w := range want {
		p, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if p.Interface != w.Interface || !p.Time.Equal(w.Time) || p.Received != w.Received || p.Length != w.Length || !bytes.Equal(p.Data, w.Data) || p.Comment != w.Comment {
			t.Errorf("packet %d is %+v, want %+v", i, p, w)
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) || r.Missed != 5 || len(r.Interfaces) != 2 || r.Interfaces[0] != "web:eth0" {
		t.Errorf("%v, %d missed, interfaces %v", err, r.Missed, r.Interfaces)
	}
	if len(r.Names) != 2 || r.Names[netip.MustParseAddr("fd00:17::2")] != "web.bridge" {
		t.Errorf("names: %v", r.Names)
	}
	g, err := pcapgo.NewNgReader(bytes.NewReader(file), pcapgo.NgReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range want {
		b, ci, err := g.ReadPacketData()
		if err != nil || !bytes.Equal(b, w.Data) || ci.Length != w.Length || !ci.Timestamp.Equal(w.Time) || ci.InterfaceIndex != w.Interface {
			t.Errorf("gopacket reads %+v, %v", ci, err)
		}
	}
	if i, err := g.Interface(0); err != nil || i.Name != "web:eth0" || i.SnapLength != 100 {
		t.Errorf("gopacket reads the interface %+v, %v", i, err)
	}
}

func FuzzReader(f *testing.F) {
	file, _ := written(f)
	f.Add(file)
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(bytes.NewReader(b))
		for {
			if _, err := r.Next(); err != nil {
				return
			}
		}
	})
}
