package vswitch_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/gopacket/layers"
	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

// softWorld is an offloading sender and a receiver that takes finished frames.
func softWorld(t *testing.T) (n *switchtest.Net, a, b *switchtest.Host) {
	n = switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16", "fd00:17::/64")
	return n, n.Host(br, "a", "172.17.0.2", "fd00:17::2"), n.Plain(br, "b", "172.17.0.3", "fd00:17::3")
}

func pattern(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestSegmentTCP(t *testing.T) {
	timestamps := []layers.TCPOption{{OptionType: 1, OptionLength: 1}, {OptionType: 1, OptionLength: 1}, {OptionType: 8, OptionLength: 10, OptionData: pattern(8)}}
	for _, c := range []struct {
		name  string
		p     switchtest.Packet
		tcp   layers.TCP
		bytes int
		size  uint16
		ecn   uint8
		want  int // pieces
	}{
		{"IPv4", v4, layers.TCP{ACK: true, PSH: true, FIN: true, CWR: true, ECE: true}, 5000, 1448, vswitch.GSOECN, 4},
		{"IPv6", v6, layers.TCP{ACK: true, PSH: true, FIN: true, CWR: true, ECE: true}, 5000, 1428, 0, 4},
		{"options", v4, layers.TCP{ACK: true, PSH: true, Options: timestamps}, 64000, 1448, 0, 45},
		{"IPv4 options", with(v4, func(p *switchtest.Packet) { p.Options, p.ID = make([]byte, 12), 0xfffe }), layers.TCP{ACK: true, FIN: true}, 3000, 1000, 0, 3},
		{"odd sizes", v6, layers.TCP{ACK: true, PSH: true, Options: timestamps}, 3001, 777, 0, 4},
		{"exact", v4, layers.TCP{ACK: true, PSH: true, Seq: 0xfffffc00}, 4344, 1448, 0, 3},
		{"one piece", v4, layers.TCP{ACK: true, PSH: true, FIN: true, CWR: true}, 100, 1448, 0, 1},
		{"no payload", v4, layers.TCP{ACK: true, PSH: true, FIN: true, CWR: true}, 0, 1448, 0, 1},
		{"smallest pieces", v4, layers.TCP{ACK: true}, 480, 48, 0, 10},
		{"largest IPv4", v4, layers.TCP{ACK: true}, 65495, 1460, 0, 45},
		{"largest IPv6", v6, layers.TCP{ACK: true}, 65515, 65483, 0, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, a, b := softWorld(t)
			payload := pattern(c.bytes)
			c.tcp.SrcPort, c.tcp.DstPort, c.tcp.Ack = 40000, 80, 77
			if c.tcp.Seq == 0 {
				c.tcp.Seq = 1000
			}
			kind := uint8(vswitch.GSOTCPv4)
			if c.p.Dst.Is6() {
				kind = vswitch.GSOTCPv6
			}
			a.Send(switchtest.Super(c.p.TCP(c.tcp, payload), kind|c.ecn, c.size))
			got := b.Dev.Take()
			if len(got) != c.want || len(a.Dropped()) != 0 {
				t.Fatalf("%d pieces, want %d; dropped %v", len(got), c.want, a.Dropped())
			}
			var joined []byte
			for i, f := range got {
				switchtest.CheckFinished(t, f)
				tcp := switchtest.Layer[*layers.TCP](t, f)
				last := i == len(got)-1
				if tcp.Seq != c.tcp.Seq+uint32(len(joined)) || tcp.Ack != 77 || tcp.SrcPort != 40000 || tcp.DstPort != 80 || len(tcp.Options) != len(c.tcp.Options) {
					t.Errorf("piece %d: %+v", i, tcp)
				}
				if tcp.FIN != (c.tcp.FIN && last) || tcp.PSH != (c.tcp.PSH && last) || tcp.CWR != (c.tcp.CWR && i == 0) || tcp.ECE != c.tcp.ECE || !tcp.ACK {
					t.Errorf("piece %d of %d: FIN %t PSH %t CWR %t ECE %t", i, len(got), tcp.FIN, tcp.PSH, tcp.CWR, tcp.ECE)
				}
				if !last && len(tcp.Payload) != int(c.size) {
					t.Errorf("piece %d has %d bytes", i, len(tcp.Payload))
				}
				if c.p.Dst.Is4() {
					ip := switchtest.Layer[*layers.IPv4](t, f)
					if ip.Id != c.p.ID+uint16(i) || int(ip.Length) != len(f)-l3 || ip.SrcIP.String() != c.p.Src.String() {
						t.Errorf("piece %d: %+v", i, ip)
					}
				} else if ip := switchtest.Layer[*layers.IPv6](t, f); int(ip.Length) != len(f)-l3-40 || ip.DstIP.String() != c.p.Dst.String() {
					t.Errorf("piece %d: %+v", i, ip)
				}
				joined = append(joined, tcp.Payload...)
			}
			if !bytes.Equal(joined, payload) {
				t.Errorf("%d bytes arrived, or others than the %d sent", len(joined), len(payload))
			}
			if b.Stats.RxFrames != uint64(c.want) || a.Stats.TxFrames != 1 {
				t.Errorf("counted %d in, %d out", b.Stats.RxFrames, a.Stats.TxFrames)
			}
		})
	}
}

func TestSegmentUDP(t *testing.T) {
	for _, c := range []struct {
		name  string
		p     switchtest.Packet
		bytes int
		size  uint16
		want  int
	}{
		{"IPv4", v4, 5000, 1472, 4}, {"IPv6", v6, 5000, 1452, 4}, {"odd", v6, 999, 333, 3}, {"one", v4, 10, 1472, 1}, {"empty", v4, 0, 1472, 1},
		{"most", v4, 128 * 8, 8, 128}, {"options", with(v4, func(p *switchtest.Packet) { p.Options = make([]byte, 4) }), 3000, 1000, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, a, b := softWorld(t)
			payload := pattern(c.bytes)
			a.Send(switchtest.Super(c.p.UDP(5000, 443, payload), vswitch.GSOUDPL4, c.size))
			got := b.Dev.Take()
			if len(got) != c.want || len(a.Dropped()) != 0 {
				t.Fatalf("%d datagrams, want %d; dropped %v", len(got), c.want, a.Dropped())
			}
			var joined []byte
			for i, f := range got {
				switchtest.CheckFinished(t, f)
				udp := switchtest.Layer[*layers.UDP](t, f)
				if udp.SrcPort != 5000 || udp.DstPort != 443 || int(udp.Length) != 8+len(udp.Payload) || i < len(got)-1 && len(udp.Payload) != int(c.size) {
					t.Errorf("datagram %d: %+v", i, udp)
				}
				joined = append(joined, udp.Payload...)
			}
			if !bytes.Equal(joined, payload) {
				t.Errorf("%d bytes arrived, or others than the %d sent", len(joined), len(payload))
			}
		})
	}
}

// TestSegmentBehindExtension: the headers in between are copied to each piece.
func TestSegmentBehindExtension(t *testing.T) {
	_, a, b := softWorld(t)
	whole := v6.TCP(layers.TCP{SrcPort: 1, DstPort: 2, ACK: true}, pattern(3000))
	frame := v6.IP(60, switchtest.Extension(6, switchtest.Transport(whole)))
	vswitch.Vnet{Flags: vswitch.VnetNeedsCsum, GSOType: vswitch.GSOTCPv6, GSOSize: 1000, HdrLen: 14 + 40 + 8 + 20, CsumStart: 14 + 40 + 8, CsumOff: 16}.Put(frame)
	a.Send(frame)
	got := b.Dev.Take()
	if len(got) != 3 {
		t.Fatalf("%d pieces", len(got))
	}
	for i, f := range got {
		ip := switchtest.Layer[*layers.IPv6](t, f)
		l4 := f[l3+48:]
		if ip.NextHeader != 60 || int(ip.Length) != len(f)-l3-40 || l4[12]>>4 != 5 {
			t.Errorf("piece %d: %+v", i, ip)
		}
		switchtest.CheckFinished(t, f)
	}
}

// TestFinishChecksum: frames of one piece whose checksum is left open.
func TestFinishChecksum(t *testing.T) {
	for name, f := range map[string][]byte{
		"tcp4":       v4.TCP(ack, pattern(1448)),
		"tcp6":       v6.TCP(ack, pattern(1428)),
		"tcp4 odd":   v4.TCP(ack, pattern(33)),
		"tcp4 empty": v4.TCP(layers.TCP{SrcPort: 1, DstPort: 2, SYN: true}, nil),
		"udp4":       v4.UDP(1, 2, pattern(100)),
		"udp6":       v6.UDP(1, 2, pattern(101)),
		"udp4 empty": v4.UDP(1, 2, nil),
	} {
		_, a, b := softWorld(t)
		a.Send(switchtest.Partial(f))
		got := b.Dev.Take()
		if len(got) != 1 {
			t.Errorf("%s: %d frames; dropped %v", name, len(got), a.Dropped())
			continue
		}
		switchtest.CheckFinished(t, got[0])
		if !bytes.Equal(got[0], f) {
			t.Errorf("%s: not what a kernel without offload would have sent", name)
		}
	}
}

// TestFinishPadded: bytes behind the datagram, which a driver may have added,
// are zeros and do not count.
func TestFinishPadded(t *testing.T) {
	_, a, b := softWorld(t)
	f := v4.UDP(1, 2, []byte{1})
	a.Send(append(switchtest.Partial(f), make([]byte, 17)...))
	if got := b.Dev.Take(); len(got) != 1 || !bytes.Equal(got[0], append(f, make([]byte, 17)...)) {
		t.Errorf("%d frames, or another one", len(got))
	}
}

// TestUDPChecksumZero: a sum of 0 is sent as 0xffff, since 0 means none: in a
// frame that is finished and in a piece.
func TestUDPChecksumZero(t *testing.T) {
	for _, p := range []switchtest.Packet{v4, v6} {
		payload := make([]byte, 8)
		f := p.UDP(1, 2, payload) // its checksum is what the payload lacks to make it 0
		copy(payload, switchtest.Transport(f)[6:8])
		if f = p.UDP(1, 2, payload); binary.BigEndian.Uint16(switchtest.Transport(f)[6:]) != 0 {
			t.Fatal("the frame's checksum is not 0")
		}
		_, a, b := softWorld(t)
		a.Send(switchtest.Partial(f), switchtest.Super(p.UDP(1, 2, append(payload, pattern(8)...)), vswitch.GSOUDPL4, 8))
		got := b.Dev.Take()
		if len(got) != 3 {
			t.Fatalf("%d frames, not 3", len(got))
		}
		for i, g := range got {
			if sum := binary.BigEndian.Uint16(switchtest.Transport(g)[6:]); i < 2 && sum != 0xffff {
				t.Errorf("frame %d: checksum %#04x, not 0xffff", i, sum)
			}
			switchtest.CheckFinished(t, g)
		}
	}
}

// TestOffloadOnlyWhereNeeded: of a broadcast super-frame each port gets what it
// can take, whatever the order of the ports.
func TestOffloadOnlyWhereNeeded(t *testing.T) {
	kinds := []vswitch.Caps{0, vswitch.CapCsum, vswitch.CapCsum | vswitch.CapTSO, switchtest.All}
	for turn := range kinds {
		n := switchtest.NewNet(t)
		br := n.Bridge("bridge", "172.17.0.0/16")
		a := n.Host(br, "a", "172.17.0.2")
		hosts := map[vswitch.Caps]*switchtest.Host{}
		for i := range kinds {
			caps := kinds[(i+turn)%len(kinds)]
			hosts[caps] = n.Attach(vswitch.PortConfig{Name: fmt.Sprint(caps), Bridge: br, MAC: vswitch.MAC{2, 0, 0, 0, 0, byte(i)}}, switchtest.NewDevice(t, caps), "172.17.1.1")
		}
		all := with(v4, func(p *switchtest.Packet) { p.DstMAC = vswitch.Broadcast })
		finished := all.UDP(1, 2, pattern(3000))
		for _, x := range []struct {
			name  string
			frame []byte
			want  map[vswitch.Caps]int // pieces
		}{
			{"finished", finished, map[vswitch.Caps]int{kinds[0]: 1, kinds[1]: 1, kinds[2]: 1, kinds[3]: 1}},
			{"partial", switchtest.Partial(finished), map[vswitch.Caps]int{kinds[0]: 1, kinds[1]: 1, kinds[2]: 1, kinds[3]: 1}},
			{"datagrams", switchtest.Super(finished, vswitch.GSOUDPL4, 1000), map[vswitch.Caps]int{kinds[0]: 3, kinds[1]: 3, kinds[2]: 3, kinds[3]: 1}},
			{"segments", switchtest.Super(all.TCP(ack, pattern(3000)), vswitch.GSOTCPv4, 1000), map[vswitch.Caps]int{kinds[0]: 3, kinds[1]: 3, kinds[2]: 1, kinds[3]: 1}},
		} {
			a.Send(x.frame)
			for caps, h := range hosts {
				got := h.Dev.Take()
				if len(got) != x.want[caps] {
					t.Errorf("%s to a port with capabilities %d: %d frames, want %d", x.name, caps, len(got), x.want[caps])
					continue
				}
				if len(got) == 3 || caps == 0 {
					for _, g := range got {
						switchtest.CheckFinished(t, g)
					}
				}
				// A frame that a port before had finished may reach it finished.
				if len(got) == 1 && got[0][0] != 0 && !bytes.Equal(got[0], x.frame) {
					t.Errorf("%s to a port with capabilities %d was changed", x.name, caps)
				}
			}
		}
	}
}

// TestSegmentsAtRandom compares with what the sender would have sent itself.
func TestSegmentsAtRandom(t *testing.T) {
	r := switchtest.Rand(t)
	_, a, b := softWorld(t)
	for range 500 {
		p := v4
		if r.IntN(2) == 0 {
			p = v6
		}
		p.ID, p.TTL = uint16(r.Uint32()), uint8(2+r.IntN(250))
		if p.Dst.Is4() && r.IntN(4) == 0 {
			p.Options = make([]byte, 4*(1+r.IntN(10)))
		}
		payload, size := pattern(r.IntN(20000)), 200+r.IntN(9000)
		seq, udp := r.Uint32(), r.IntN(2) == 0
		make1 := func(off int, part []byte, i int) []byte {
			q := p
			q.ID += uint16(i)
			if udp {
				return q.UDP(5, 6, part)
			}
			last := off+len(part) == len(payload)
			return q.TCP(layers.TCP{SrcPort: 5, DstPort: 6, Seq: seq + uint32(off), ACK: true, PSH: last, CWR: i == 0}, part)
		}
		kind := uint8(vswitch.GSOUDPL4)
		if !udp {
			kind = vswitch.GSOTCPv4
			if p.Dst.Is6() {
				kind = vswitch.GSOTCPv6
			}
		}
		a.Send(switchtest.Super(make1(0, payload, 0), kind, uint16(size)))
		got := b.Dev.Take()
		for i, off := 0, 0; off < len(payload) || i == 0; i++ {
			part := payload[off:min(len(payload), off+size)]
			want := make1(off, part, i)
			if i >= len(got) {
				t.Fatalf("%d pieces are too few", len(got))
			}
			if sum := switchtest.Transport(want)[6:8]; udp && sum[0]|sum[1] == 0 {
				sum[0], sum[1] = 0xff, 0xff // gopacket does not know
			}
			if !bytes.Equal(got[i], want) {
				t.Fatalf("piece %d of %d bytes in %d: got\n%x want\n%x", i, len(payload), size, got[i][:min(len(got[i]), 100)], want[:min(len(want), 100)])
			}
			off += len(part)
		}
	}
}

// TestTwoSwitches joins two whole switches by a cable, one end of which knows
// no offload, and lets hosts on both talk.
func TestTwoSwitches(t *testing.T) {
	for _, caps := range []vswitch.Caps{0, switchtest.All} {
		left, right := switchtest.NewNet(t), switchtest.NewNet(t)
		brL, brR := left.Bridge("bridge", "172.17.0.0/16"), right.AddBridge(vswitch.BridgeConfig{Name: "bridge", Subnet: netip.MustParsePrefix("172.17.0.0/16"), Gateway: netip.MustParseAddr("172.17.0.254")})
		x, y := switchtest.Cable(t, caps)
		up := left.Attach(vswitch.PortConfig{Name: "up", Bridge: brL, Device: x, Spoof: true, MAC: vswitch.MAC{2, 0, 0, 0, 0, 1}}, nil)
		right.Attach(vswitch.PortConfig{Name: "up", Bridge: brR, Device: y, Spoof: true, MAC: vswitch.MAC{2, 0, 0, 0, 0, 2}}, nil)
		a, b := left.Host(brL, "a", "172.17.0.2"), right.Host(brR, "b", "172.17.0.3")
		both := func() {
			for range 4 {
				left.Poll()
				right.Poll()
			}
		}
		request := switchtest.ARP{SrcMAC: a.MAC, DstMAC: vswitch.Broadcast, Op: layers.ARPRequest, SenderMAC: a.MAC, SenderIP: a.Addrs[0], TargetIP: b.Addrs[0]}
		a.Dev.Push(request.Frame())
		both()
		if got := b.Dev.Take(); len(got) != 1 || !bytes.Equal(got[0], request.Frame()) {
			t.Fatalf("caps %d: b heard %d requests", caps, len(got))
		}
		answer := switchtest.ARP{SrcMAC: b.MAC, DstMAC: a.MAC, Op: layers.ARPReply, SenderMAC: b.MAC, SenderIP: b.Addrs[0], TargetMAC: a.MAC, TargetIP: a.Addrs[0]}
		b.Dev.Push(answer.Frame())
		both()
		if got := a.Dev.Take(); len(got) != 1 || !bytes.Equal(got[0], answer.Frame()) {
			t.Fatalf("caps %d: a heard %d answers", caps, len(got))
		}
		payload := pattern(60000)
		a.Dev.Push(switchtest.Super(a.To(b).TCP(ack, payload), vswitch.GSOTCPv4, 1448))
		both()
		got := b.Dev.Take()
		want := 1
		if caps == 0 {
			want = (len(payload) + 1447) / 1448
		}
		var joined []byte
		for _, f := range got {
			joined = append(joined, switchtest.Layer[*layers.TCP](t, f).Payload...)
		}
		if len(got) != want || !bytes.Equal(joined, payload) {
			t.Errorf("caps %d: %d frames with %d bytes", caps, len(got), len(joined))
		}
		if up.Learned() != 1 || holder(brL, b.MAC) != up.ID {
			t.Errorf("caps %d: b was not learned on the uplink", caps)
		}
		if len(a.Dropped())+len(b.Dropped())+len(up.Dropped()) != 0 {
			t.Errorf("caps %d: dropped %v %v %v", caps, a.Dropped(), b.Dropped(), up.Dropped())
		}
	}
}
