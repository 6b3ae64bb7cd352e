package nat

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"testing"

	"github.com/google/gopacket/layers"
	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

// inward is a NAT whose container is written by hand, and whose outside is a
// listener of this process.
type inward struct {
	t       testing.TB
	sw      *vswitch.Switch
	nat     *NAT
	dev     *switchtest.Device
	packet  switchtest.Packet
	ours    uint32 // next sequence number of the container
	theirs  uint32 // and of the outside
	outside net.Conn
	frames  [1][]byte
}

type toListener struct {
	Kernel
	at netip.AddrPort
}

func (o toListener) Address(netip.AddrPort) netip.AddrPort { return o.at }

func newInward(t testing.TB) *inward {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	x := &inward{t: t, ours: 1000}
	if x.sw, err = vswitch.New(vswitch.Config{Logf: t.Logf}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(x.sw.Close)
	if x.nat, err = New(x.sw, Config{Outside: toListener{at: ln.Addr().(*net.TCPAddr).AddrPort()}}); err != nil {
		t.Fatal(err)
	}
	br := x.sw.AddBridge(vswitch.BridgeConfig{Name: "bridge", MTU: 1500, Subnet: netip.MustParsePrefix("172.17.0.0/16"), Gateway: netip.MustParseAddr("172.17.0.1")})
	a := netip.MustParseAddr("172.17.0.2")
	x.dev = switchtest.NewDevice(t, switchtest.All)
	mac := switchtest.MACOf(a)
	if _, err = x.sw.AddPort(vswitch.PortConfig{Name: "c:eth0", Bridge: br, Device: x.dev, MAC: mac, Addrs: []netip.Addr{a}}); err != nil {
		t.Fatal(err)
	}
	x.packet = switchtest.Packet{SrcMAC: mac, DstMAC: br.MAC, Src: a, Dst: netip.MustParseAddr("198.51.100.1")}
	accepted := make(chan net.Conn)
	go func() {
		c, _ := ln.Accept()
		accepted <- c
	}()
	x.dev.Push(x.segment(layers.TCP{SYN: true, Options: []layers.TCPOption{
		{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{5, 180}},
		{OptionType: layers.TCPOptionKindWindowScale, OptionLength: 3, OptionData: []byte{10}}}}, nil))
	if x.outside = <-x.until(accepted); x.outside == nil {
		t.Fatal("no connection")
	}
	t.Cleanup(func() { x.outside.Close() })
	for x.theirs == 0 {
		x.sw.Poll()
		for _, b := range x.dev.Take() {
			if l4 := switchtest.Transport(b); l4[13] == vswitch.TCPSyn|vswitch.TCPAck {
				x.theirs = binary.BigEndian.Uint32(l4[4:]) + 1
			}
		}
	}
	x.ours++
	x.give(x.segment(layers.TCP{ACK: true}, nil))
	x.dev.Discard()
	return x
}

// until turns the switch until a connection comes.
func (x *inward) until(c chan net.Conn) chan net.Conn {
	for {
		select {
		case conn := <-c:
			c = make(chan net.Conn, 1)
			c <- conn
			return c
		default:
			x.sw.Poll()
		}
	}
}

func (x *inward) segment(h layers.TCP, payload []byte) []byte {
	h.SrcPort, h.DstPort, h.Seq, h.Ack, h.Window = 40000, 80, x.ours, x.theirs, 65535
	if !h.SYN {
		h.Window = 16 << 20 >> 10
	}
	return switchtest.Partial(x.packet.TCP(h, payload))
}

// give lets the switch read a frame whose numbers are the next ones.
func (x *inward) give(frame []byte) {
	t := &x.nat.flows[0].tcp
	l4 := switchtest.Transport(frame)
	binary.BigEndian.PutUint32(l4[4:], t.rcvNxt)
	binary.BigEndian.PutUint32(l4[8:], t.sndMax)
	x.frames[0] = frame
	x.dev.Push(x.frames[:]...)
	x.sw.Poll()
}

// outward makes the work for one segment of size bytes from the container.
func (x *inward) outward(size int) func() {
	go io.Copy(io.Discard, x.outside)
	frame := x.segment(layers.TCP{ACK: true, PSH: true}, make([]byte, size))
	if size > 1460 {
		frame = switchtest.Super(frame, vswitch.GSOTCPv4, 1460)
	}
	return func() { x.give(frame) }
}

// homeward makes the work for what the outside sends: frames to the container,
// and its acknowledgement. The first has arrived when it returns.
func (x *inward) homeward() func() {
	go func() {
		b := make([]byte, 1<<20)
		for {
			if _, err := x.outside.Write(b); err != nil {
				return
			}
		}
	}()
	frame := x.segment(layers.TCP{ACK: true}, nil)
	for x.nat.flows[0].bytes[1] == 0 {
		x.give(frame)
		runtime.Gosched() // the writer may not have begun
	}
	return func() { x.give(frame) }
}

func BenchmarkTCPOut(b *testing.B) {
	for _, size := range []int{64, 1460, 60000} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			work := newInward(b).outward(size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				work()
			}
		})
	}
}

func BenchmarkTCPIn(b *testing.B) {
	x := newInward(b)
	work := x.homeward()
	b.ReportAllocs()
	for b.Loop() {
		work()
	}
	b.ReportMetric(float64(x.nat.flows[0].bytes[1])/1e6/b.Elapsed().Seconds(), "MB/s")
	b.ReportMetric(float64(x.nat.flows[0].bytes[1])/float64(x.nat.flows[0].packets[1]), "B/frame")
}

// Nothing that is done for each segment, either way, allocates.
func TestSegmentsAllocateNothing(t *testing.T) {
	for name, work := range map[string]func(x *inward) func(){
		"64 bytes out":    func(x *inward) func() { return x.outward(64) },
		"60000 bytes out": func(x *inward) func() { return x.outward(60000) },
		"in":              (*inward).homeward,
	} {
		x := newInward(t)
		f := work(x)
		for range 500 {
			f() // what a first use allocates
		}
		if n := testing.AllocsPerRun(500, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
		if b := x.nat.flows[0].bytes; b[0] == 0 || name == "in" && b[1] == 0 {
			t.Errorf("%s: %v bytes were moved", name, b)
		}
	}
}
