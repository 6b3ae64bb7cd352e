package vswitch_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"
	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

// A stream is a TCP connection of which a test sends one direction.
type stream struct {
	from, to *switchtest.Host
	port     uint16
	seq      uint32
}

// super is the next super-frame of the stream, of size bytes in pieces of mss.
func (s *stream) super(size, mss int, change func(*layers.TCP)) []byte {
	l := layers.TCP{SrcPort: layers.TCPPort(s.port), DstPort: 5201, Seq: s.seq, Ack: 1, ACK: true,
		Options: []layers.TCPOption{{OptionType: layers.TCPOptionKindNop}, {OptionType: layers.TCPOptionKindNop},
			{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: make([]byte, 8)}}}
	if change != nil {
		change(&l)
	}
	payload := make([]byte, size)
	for i := range payload {
		payload[i] = byte((s.seq+uint32(i))>>3) ^ byte(s.port) // that is not the same wherever it lies
	}
	s.seq += uint32(size)
	kind := uint8(vswitch.GSOTCPv4)
	if s.to.Addrs[0].Is6() {
		kind = vswitch.GSOTCPv6
	}
	return switchtest.Super(s.from.To(s.to).TCP(l, payload), kind, uint16(mss))
}

// segment is one frame as it was sent, without what differs by how it travelled.
type segment struct {
	port    uint16
	seq     uint32
	payload string
	flags   uint8 // but for PSH
}

// segments takes apart what a host was given: of each super-frame it says what
// pieces it stands for, after a look at what its headers say of it.
func segments(t *testing.T, b []byte) (out []segment) {
	t.Helper()
	const l3 = vswitch.VnetLen + vswitch.EthLen
	v, l4 := vswitch.ReadVnet(b), switchtest.Transport(b)
	payload := l4[int(l4[12]>>4)*4:]
	if v.GSOType == vswitch.GSOTCPv4 {
		want := len(b) - l3
		if want > 0xffff {
			want = 0
		}
		if got := int(binary.BigEndian.Uint16(b[l3+2:])); got != want {
			t.Fatalf("a frame of %d bytes says %d", len(b)-l3, got)
		}
		if switchtest.NaiveChecksum(b[l3:l3+vswitch.IPv4Len], 0) != 0 {
			t.Fatal("the IP header's checksum is wrong")
		}
		whole := switchtest.Super(b, v.GSOType, v.GSOSize) // computes the open checksum from the length
		if !bytes.Equal(whole, b) {
			t.Fatalf("got  %x\nwant %x", b[:80], whole[:80])
		}
	}
	size := int(v.GSOSize)
	if size == 0 {
		size = max(len(payload), 1)
	}
	s := segment{port: binary.BigEndian.Uint16(l4), seq: binary.BigEndian.Uint32(l4[4:])}
	for first := true; first || len(payload) > 0; first = false {
		n := min(size, len(payload))
		s.payload = string(payload[:n])
		payload = payload[n:]
		if s.flags = l4[13] &^ vswitch.TCPPsh; len(payload) > 0 {
			s.flags &^= vswitch.TCPFin
		}
		if !first {
			s.flags &^= vswitch.TCPCwr
		}
		out = append(out, s)
		s.seq += uint32(n)
	}
	return out
}

// arrived is what a host was given, in order, in how many frames, and whether the last
// pushes it on.
func arrived(t *testing.T, h *switchtest.Host) (out []segment, frames int, push bool) {
	t.Helper()
	for _, b := range h.Dev.Take() {
		frames++
		out = append(out, segments(t, b)...)
		push = switchtest.Transport(b)[13]&vswitch.TCPPsh != 0
	}
	return out, frames, push
}

func newMergeNet(t *testing.T) (n *switchtest.Net, a, b *switchtest.Host) {
	n = switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	return n, n.Host(br, "a", "172.17.0.2"), n.Host(br, "b", "172.17.0.3")
}

// TestMerge: super-frames that follow each other are one write, up to a
// port's share, and its headers are those of the whole.
func TestMerge(t *testing.T) {
	for _, c := range []struct{ size, mss, frames, writes int }{
		{45 * 1448, 1448, 1, 1},
		{45 * 1448, 1448, 2, 1},
		{45 * 1448, 1448, 4, 1},
		{45 * 1448, 1448, 8, 2},
		{12 * 1448, 1448, 3, 1},  // no more than 64 KiB together
		{12 * 1448, 1448, 4, 1},  // just above
		{11 * 1448, 1448, 3, 3},  // the sender has no more
		{3 * 16000, 16000, 4, 1}, // MTU 16052
	} {
		n, a, b := newMergeNet(t)
		s := &stream{from: a, to: b, port: 9}
		var want []segment
		for i := range c.frames {
			f := s.super(c.size, c.mss, func(l *layers.TCP) { l.PSH = i == c.frames-1 })
			want = append(want, segments(t, f)...)
			a.Dev.Push(f)
		}
		for a.Dev.Pending() > 0 {
			n.Poll()
		}
		got, writes, push := arrived(t, b)
		if !slices.Equal(got, want) || writes != c.writes || !push {
			t.Errorf("%d frames of %d bytes: %d segments in %d writes, not %d in %d, or others", c.frames, c.size, len(got), writes, len(want), c.writes)
		}
		if b.Stats.RxFrames != a.Stats.TxFrames || b.Stats.RxBytes != a.Stats.TxBytes {
			t.Errorf("sent %d frames of %d bytes, received %d of %d", a.Stats.TxFrames, a.Stats.TxBytes, b.Stats.RxFrames, b.Stats.RxBytes)
		}
	}
}

// TestMergeKeepsOrder: whatever is sent in between, by whichever way it goes, all of
// it arrives, and in order at each port.
func TestMergeKeepsOrder(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a, b, c, d := n.Host(br, "a", "172.17.0.2"), n.Host(br, "b", "172.17.0.3"), n.Host(br, "c", "172.17.0.4"), n.Plain(br, "d", "172.17.0.5")
	// What is for the gateway comes back to b, as a published port's would.
	n.Gateway.Decide = func(f *vswitch.Frame) vswitch.Action {
		other := bytes.Clone(f.B)
		copy(other[vswitch.VnetLen:], b.MAC[:])
		if r := n.Output(b.Port, other); r != vswitch.Delivered {
			t.Errorf("the gateway's: %v", r)
		}
		return vswitch.Action{Kind: vswitch.ActConsumed}
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	streams := []*stream{{from: a, to: b, port: 1}, {from: a, to: b, port: 2}, {from: a, to: c, port: 3}, {from: a, to: d, port: 4}}
	merged := 0
	for round := range 100 {
		want := map[*switchtest.Host][]segment{}
		s := streams[0]
		for range r.IntN(20) {
			if r.IntN(5) == 0 {
				s = streams[r.IntN(len(streams))]
			}
			size := []int{45, 45, 45, 44, 20, 12, 11, 2}[r.IntN(8)] * 1448
			if r.IntN(8) == 0 {
				size -= r.IntN(1400) // a shorter piece at its end
			}
			psh, other := r.IntN(4) == 0, r.IntN(20)
			f := s.super(size, 1448, func(l *layers.TCP) { l.PSH, l.FIN, l.CWR = psh, other == 0, other == 1 })
			to := s.to
			if other == 2 { // by way of the gateway
				copy(f[vswitch.VnetLen:], br.MAC[:])
				to = b
			}
			if other == 3 { // lost on the way
				f = s.super(size, 1448, nil)
			}
			want[to] = append(want[to], segments(t, f)...)
			a.Dev.Push(f)
		}
		received := b.Stats.RxFrames + c.Stats.RxFrames
		for a.Dev.Pending() > 0 {
			n.Poll()
		}
		frames := 0
		for _, to := range []*switchtest.Host{b, c, d} {
			got, writes, _ := arrived(t, to)
			if !slices.Equal(got, want[to]) {
				t.Fatalf("round %d: %s has %d segments, not %d, or others", round, to.Name, len(got), len(want[to]))
			}
			if to != d {
				frames += writes
			}
		}
		merged += int(b.Stats.RxFrames+c.Stats.RxFrames-received) - frames
	}
	if merged < 50 {
		t.Errorf("%d frames were merged", merged)
	}
}

// TestMergeKeepsWhatDiffers: super-frames that differ in a field which the receiver
// sees, or that do not follow each other, do not travel together, and each arrives as
// it was.
func TestMergeKeepsWhatDiffers(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a, b := n.Trusted(br, "a", "172.17.0.2"), n.Host(br, "b", "172.17.0.3")
	const l3, l4 = vswitch.VnetLen + vswitch.EthLen, vswitch.VnetLen + vswitch.EthLen + vswitch.IPv4Len
	raw := func(f func(p []byte)) func(*stream) []byte {
		return func(s *stream) []byte {
			p := s.super(30*1448, 1448, nil)
			f(p)
			vswitch.PutIPv4Checksum(p[l3:l4])
			return p
		}
	}
	tcp := func(f func(*layers.TCP)) func(*stream) []byte {
		return func(s *stream) []byte { return s.super(30*1448, 1448, f) }
	}
	for name, second := range map[string]func(*stream) []byte{
		"source MAC":     raw(func(p []byte) { p[vswitch.VnetLen+11]++ }),
		"class":          raw(func(p []byte) { p[l3+1] ^= 2 }),
		"TTL":            raw(func(p []byte) { p[l3+8]-- }),
		"DF":             raw(func(p []byte) { p[l3+6] ^= 0x40 }),
		"MSS":            func(s *stream) []byte { return s.super(30*1448, 724, nil) },
		"ECN":            raw(func(p []byte) { p[1] |= vswitch.GSOECN }),
		"port":           tcp(func(l *layers.TCP) { l.DstPort++ }),
		"acknowledgment": tcp(func(l *layers.TCP) { l.Ack++ }),
		"window":         tcp(func(l *layers.TCP) { l.Window = 1000 }),
		"time stamp":     tcp(func(l *layers.TCP) { l.Options[2].OptionData[3] = 1 }),
		"no time stamp":  tcp(func(l *layers.TCP) { l.Options = nil }),
		"ECE":            tcp(func(l *layers.TCP) { l.ECE = true }),
		"CWR":            tcp(func(l *layers.TCP) { l.CWR = true }),
		"FIN":            tcp(func(l *layers.TCP) { l.FIN = true }),
		"urgent":         tcp(func(l *layers.TCP) { l.URG, l.Urgent = true, 5 }),
		"a hole":         func(s *stream) []byte { s.seq += 1448; return s.super(30*1448, 1448, nil) },
		"again":          func(s *stream) []byte { s.seq -= 30 * 1448; return s.super(30*1448, 1448, nil) },
	} {
		s := &stream{from: a, to: b, port: 9, seq: 1}
		first := s.super(30*1448, 1448, nil)
		other := second(s)
		a.Dev.Push(first, other)
		n.Poll()
		got := b.Dev.Take()
		if len(got) != 2 || !bytes.Equal(got[0], first) || !bytes.Equal(got[1], other) {
			t.Errorf("%s: %d frames, or others", name, len(got))
		}
	}
	short := &stream{from: a, to: b, port: 9}
	a.Dev.Push(short.super(30*1448-1, 1448, nil), short.super(30*1448, 1448, nil))
	n.Poll()
	if _, frames, _ := arrived(t, b); frames != 2 {
		t.Errorf("behind a short piece: %d frames", frames)
	}
}

// TestMergeOnlyTCP: what is no whole IPv4 packet of TCP stays as it is, though its
// virtio header says so.
func TestMergeOnlyTCP(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a, b := n.Trusted(br, "a", "172.17.0.2"), n.Host(br, "b", "172.17.0.3")
	const l3, l4 = vswitch.VnetLen + vswitch.EthLen, vswitch.VnetLen + vswitch.EthLen + vswitch.IPv4Len
	for name, change := range map[string]func(p []byte){
		"nothing":                   func(p []byte) {},
		"another ethertype":         func(p []byte) { p[l3-2], p[l3-1] = 0x88, 0xb5 },
		"another protocol":          func(p []byte) { p[l3+9] = 253 },
		"a fragment":                func(p []byte) { p[l3+6] |= 0x20 },
		"padding":                   func(p []byte) { p[l3+3]-- },
		"checksum elsewhere":        func(p []byte) { p[6] += 2 },
		"no super-frame":            func(p []byte) { p[1] = vswitch.GSONone },
		"checksum at another field": func(p []byte) { p[8] += 2 },
		"for IPv6":                  func(p []byte) { p[1] = vswitch.GSOTCPv6 },
		"data-valid checksum":       func(p []byte) { p[0] |= vswitch.VnetDataValid },
	} {
		s, want := &stream{from: a, to: b, port: 9, seq: 1}, 2
		if name == "nothing" {
			want = 1
		}
		var sent [][]byte
		for range 2 {
			f := s.super(30*1448, 1448, nil)
			change(f)
			vswitch.PutIPv4Checksum(f[l3:l4])
			sent = append(sent, bytes.Clone(f))
			a.Dev.Push(f)
		}
		n.Poll()
		got := b.Dev.Take()
		if len(got) != want {
			t.Errorf("%s: %d frames", name, len(got))
		}
		for i, g := range got {
			if want == 2 && !bytes.Equal(g, sent[i]) {
				t.Errorf("%s: frame %d is another", name, i)
			}
		}
	}
}

// TestMergeOnlyForWhoTakesIt: not for IPv6, not for a device that knows no such frames,
// not for one that passes them on, not where each frame waits for its time.
func TestMergeOnlyForWhoTakesIt(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16", "fd00:17::/64")
	a := n.Host(br, "a", "172.17.0.2")
	old := n.Attach(vswitch.PortConfig{Name: "old", Bridge: br}, switchtest.NewDevice(t, switchtest.All&^vswitch.CapBig), "172.17.0.3")
	router := n.Trusted(br, "router", "172.17.0.4")
	shaped := n.Attach(vswitch.PortConfig{Name: "shaped", Bridge: br, Shape: vswitch.Shape{RateIn: 1 << 40}}, switchtest.NewDevice(t, switchtest.All), "172.17.0.5")
	a6, b6 := n.Host(br, "a6", "fd00:17::2"), n.Host(br, "b6", "fd00:17::3")
	for _, s := range []*stream{{from: a, to: old}, {from: a, to: router}, {from: a, to: shaped}, {from: a6, to: b6}} {
		s.from.Dev.Push(s.super(30*1448, 1448, nil), s.super(30*1448, 1448, nil))
		n.Poll()
		if got := s.to.Dev.Take(); len(got) != 2 {
			t.Errorf("%s: %d frames", s.to.Name, len(got))
		}
	}
}

// TestMergeFails: each frame that was not taken is counted where it came from and
// noted, and the one after it is not said to be lost.
func TestMergeFails(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a, b, c := n.Host(br, "a", "172.17.0.2"), n.Host(br, "b", "172.17.0.3"), n.Host(br, "c", "172.17.0.4")
	s := &stream{from: a, to: b, port: 9}
	capture := vswitch.NewCapture(100, false)
	n.SetCapture(capture)
	b.Dev.Fail(unix.EIO)
	a.Dev.Push(s.super(45*1448, 1448, nil), s.super(45*1448, 1448, nil), s.super(45*1448, 1448, nil), a.To(c).UDP(1, 2, []byte("x")))
	n.Poll()
	if d := a.Dropped()[vswitch.PortDown]; d != 3 || b.Stats.RxFrames != 0 || len(c.Dev.Take()) != 1 {
		t.Errorf("%d counted, %d received", d, b.Stats.RxFrames)
	}
	list := n.Failures()
	if len(list) != 1 || list[0].Count != 3 || list[0].Reason != vswitch.PortDown || list[0].Port != a.ID || list[0].DstPort != 5201 || list[0].SrcPort != 9 {
		t.Errorf("noted: %+v", list)
	}
	for i, f := range capture.Read() {
		if f.Reason != vswitch.Delivered {
			t.Errorf("frame %d is captured as %v", i, f.Reason)
		}
	}
}

// A poor device has no memory for frames of more than 64 KiB, and for no more than so
// many of the others.
type poor struct {
	*switchtest.Device
	why  unix.Errno
	left *int
}

func (p poor) Write(b []byte) unix.Errno {
	if len(b) > vswitch.VnetLen+vswitch.MaxFrame {
		return p.why
	}
	if *p.left--; *p.left < 0 {
		return unix.ENOBUFS
	}
	return p.Device.Write(b)
}

// TestMergeWithoutMemory: where the kernel has none for a long frame, shorter ones
// carry the same, and for a while none are merged.
func TestMergeWithoutMemory(t *testing.T) {
	for _, why := range []unix.Errno{unix.ENOBUFS, unix.EMSGSIZE} {
		t.Run(why.Error(), func(t *testing.T) { mergeWithoutMemory(t, why) })
	}
}

func mergeWithoutMemory(t *testing.T, why unix.Errno) {
	left := 1 << 20
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	dev := switchtest.NewDevice(t, switchtest.All)
	a, b := n.Host(br, "a", "172.17.0.2"), n.Attach(vswitch.PortConfig{Name: "b", Bridge: br, Device: poor{dev, why, &left}}, dev, "172.17.0.3")
	s := &stream{from: a, to: b, port: 9}
	for _, c := range []struct{ frames, writes int }{{4, 2}, {4, 4}, {3, 3}} {
		var want []segment
		for i := range c.frames {
			f := s.super(20*1448, 1448, func(l *layers.TCP) { l.PSH = i == c.frames-1 })
			want = append(want, segments(t, f)...)
			a.Dev.Push(f)
		}
		a.Dev.Push(a.To(b).UDP(1, 2, []byte("behind")))
		n.Poll()
		frames := b.Dev.Take()
		if len(frames) != c.writes+1 {
			t.Fatalf("%d writes, not %d", len(frames), c.writes+1)
		}
		var got []segment
		for i, f := range frames[:c.writes] {
			got = append(got, segments(t, f)...)
			if psh := switchtest.Transport(f)[13]&vswitch.TCPPsh != 0; psh != (i == c.writes-1) {
				t.Errorf("write %d of %d: PSH %t", i, c.writes, psh)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d segments, not %d, or others", len(got), len(want))
		}
		if b.Stats.RxFrames != a.Stats.TxFrames || b.Stats.RxBytes != a.Stats.TxBytes || len(a.Dropped()) > 0 {
			t.Errorf("sent %d frames of %d bytes, received %d of %d", a.Stats.TxFrames, a.Stats.TxBytes, b.Stats.RxFrames, b.Stats.RxBytes)
		}
	}
	for _, writes := range []int{2, 1} { // the memory is there again, but only later is it tried
		a.Dev.Push(s.super(20*1448, 1448, nil), s.super(20*1448, 1448, nil))
		n.Poll()
		if _, got, _ := arrived(t, b); got != writes {
			t.Errorf("%d writes, not %d", got, writes)
		}
		n.Clock.Advance(2 * time.Second)
	}
	// Of two pieces the second is not taken: the frames that no write was for are lost.
	left = 1
	for range 4 {
		a.Dev.Push(s.super(20*1448, 1448, nil))
	}
	n.Poll()
	if d := a.Dropped()[vswitch.NoBuffer]; d != 3 || len(b.Dev.Take()) != 1 {
		t.Errorf("%d counted as lost", d)
	}
}

// TestMergeAmongDatagrams: a train of datagrams to the same port is not overtaken.
func TestMergeAmongDatagrams(t *testing.T) {
	n, a, b := newMergeNet(t)
	s := &stream{from: a, to: b, port: 9}
	datagram := switchtest.Partial(a.To(b).UDP(1, 2, make([]byte, 100)))
	a.Dev.Push(datagram, datagram, s.super(45*1448, 1448, nil), s.super(45*1448, 1448, nil), datagram, datagram)
	n.Poll()
	var got []uint8
	for _, f := range b.Dev.Take() {
		got = append(got, f[1])
	}
	if want := []uint8{vswitch.GSOUDPL4, vswitch.GSOTCPv4, vswitch.GSOUDPL4}; !slices.Equal(got, want) {
		t.Errorf("kinds of frames %d, not %d", got, want)
	}
}

// TestMergeIsCaptured frame by frame, as they came.
func TestMergeIsCaptured(t *testing.T) {
	n, a, b := newMergeNet(t)
	s := &stream{from: a, to: b}
	c := vswitch.NewCapture(1<<18, true)
	n.SetCapture(c)
	var sent [][]byte
	for range 3 {
		f := s.super(45*1448, 1448, nil)
		sent = append(sent, f)
		a.Dev.Push(f)
	}
	n.Poll()
	var seen []string
	for _, f := range c.Read() {
		i := len(seen) / 2
		if i >= len(sent) || !bytes.Equal(c.Bytes(&f), sent[i]) {
			t.Errorf("record %d is another frame", len(seen))
		}
		seen = append(seen, fmt.Sprintf("exit %t to %d", f.Exit, f.Out))
	}
	if _, writes, _ := arrived(t, b); len(seen) != 6 || writes != 1 {
		t.Errorf("%d writes, recorded: %q", writes, seen)
	}
}

// TestMergeAllocatesNothing, as nothing on a frame's way does.
func TestMergeAllocatesNothing(t *testing.T) {
	n, a, b := newMergeNet(t)
	b.Dev.Discard()
	s := &stream{from: a, to: b}
	push := [][]byte{s.super(45*1448, 1448, nil), s.super(45*1448, 1448, nil), s.super(45*1448, 1448, nil), a.To(b).UDP(1, 2, []byte("x"))}
	turn := func() { a.Dev.Push(push...); n.Poll() }
	turn()
	before := b.Dev.Written()
	if avg := testing.AllocsPerRun(100, turn); avg != 0 {
		t.Errorf("%v allocations", avg)
	}
	if w := b.Dev.Written() - before; w != 101*2 {
		t.Errorf("%d writes", w)
	}
}
