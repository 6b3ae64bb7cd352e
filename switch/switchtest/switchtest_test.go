package switchtest

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"
	"tapswitch/switch"
)

var (
	p4 = Packet{SrcMAC: vswitch.MAC{2, 0, 0, 0, 0, 1}, DstMAC: vswitch.MAC{2, 0, 0, 0, 0, 2}, Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2")}
	p6 = Packet{SrcMAC: p4.SrcMAC, DstMAC: p4.DstMAC, Src: netip.MustParseAddr("fd00::1"), Dst: netip.MustParseAddr("fd00::2")}
)

// TestBuilders: gopacket reads what the builders make, to the layer that was
// meant and with good checksums.
func TestBuilders(t *testing.T) {
	tcp := layers.TCP{SrcPort: 1, DstPort: 2, ACK: true}
	nd := Neighbour{Packet: p6, Target: p6.Dst, Option: p4.SrcMAC}
	options, tagged := p4, p4
	options.Options, tagged.VLAN = []byte{148, 4, 0, 0}, 5
	for _, c := range []struct {
		name  string
		frame []byte
		want  gopacket.LayerType
	}{
		{"tcp4", p4.TCP(tcp, []byte("x")), layers.LayerTypeTCP}, {"tcp6", p6.TCP(tcp, nil), layers.LayerTypeTCP},
		{"udp4", p4.UDP(1, 2, []byte("xyz")), layers.LayerTypeUDP}, {"udp6", p6.UDP(1, 2, nil), layers.LayerTypeUDP},
		{"echo", p4.Echo(1, 2, []byte("x")), layers.LayerTypeICMPv4}, {"echo6", p6.Echo(1, 2, nil), layers.LayerTypeICMPv6Echo},
		{"reply", p4.EchoReply(1, 2, nil), layers.LayerTypeICMPv4}, {"reply6", p6.EchoReply(1, 2, nil), layers.LayerTypeICMPv6Echo},
		{"options", options.UDP(1, 2, nil), layers.LayerTypeUDP}, {"vlan", tagged.UDP(1, 2, nil), layers.LayerTypeDot1Q},
		{"arp", ARP{SrcMAC: p4.SrcMAC, DstMAC: vswitch.Broadcast, Op: 1, SenderMAC: p4.SrcMAC, SenderIP: p4.Src, TargetIP: p4.Dst}.Frame(), layers.LayerTypeARP},
		{"solicitation", nd.Solicit(), layers.LayerTypeICMPv6NeighborSolicitation}, {"advertisement", nd.Advertise(), layers.LayerTypeICMPv6NeighborAdvertisement},
		{"router solicitation", nd.RouterSolicit(), layers.LayerTypeICMPv6RouterSolicitation},
		{"router advertisement", nd.RouterAdvertise(), layers.LayerTypeICMPv6RouterAdvertisement}, {"redirect", nd.Redirect(), layers.LayerTypeICMPv6Redirect},
		{"extension", p6.IP(60, Extension(17, Transport(p6.UDP(1, 2, nil)))), layers.LayerTypeIPv6Destination},
		{"fragment", p6.IP(44, Fragment(17, 8, true, 7, []byte("x"))), layers.LayerTypeIPv6Fragment},
	} {
		if Decode(t, c.frame).Layer(c.want) == nil {
			t.Errorf("%s: no %v in it:\n%v", c.name, c.want, Decode(t, c.frame))
		}
		CheckFinished(t, c.frame)
	}
}

// TestChecksumsNotices a bit that flips anywhere under a checksum.
func TestChecksumsNotices(t *testing.T) {
	for name, f := range map[string][]byte{"tcp4": p4.TCP(layers.TCP{ACK: true}, []byte("abc")), "udp6": p6.UDP(1, 2, []byte("abc")), "echo": p4.Echo(1, 1, []byte("a"))} {
		for _, at := range []int{len(f) - 1, vswitch.VnetLen + vswitch.EthLen + 12} {
			b := append([]byte(nil), f...)
			if b[at] ^= 0x10; Checksums(t, b) == nil && (name != "echo" || at == len(f)-1) {
				t.Errorf("%s: byte %d may be anything", name, at)
			}
		}
		if err := Checksums(t, f); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOffloadsAreUnfinished: the field holds the pseudo header's sum, which
// becomes the checksum when the rest is added.
func TestOffloadsAreUnfinished(t *testing.T) {
	for _, f := range [][]byte{p4.TCP(layers.TCP{ACK: true}, []byte("abc")), p6.UDP(1, 2, []byte("abcd"))} {
		b := Partial(f)
		v := vswitch.ReadVnet(b)
		start := vswitch.VnetLen + int(v.CsumStart)
		if v.Flags != vswitch.VnetNeedsCsum || v.GSOType != 0 || bytes.Equal(b, f) {
			t.Errorf("%+v", v)
		}
		sum := NaiveChecksum(b[start:], 0)
		at := start + int(v.CsumOff)
		b[at], b[at+1] = byte(sum>>8), byte(sum)
		if !bytes.Equal(b[vswitch.VnetLen:], f[vswitch.VnetLen:]) {
			t.Error("the finished frame is another one")
		}
	}
	v := vswitch.ReadVnet(Super(p6.TCP(layers.TCP{ACK: true}, make([]byte, 4000)), vswitch.GSOTCPv6, 1428))
	if v != (vswitch.Vnet{Flags: 1, GSOType: 4, GSOSize: 1428, HdrLen: 14 + 40 + 20, CsumStart: 54, CsumOff: 16}) {
		t.Errorf("%+v", v)
	}
}

// noted is a testing.TB that keeps errors to itself.
type noted struct {
	testing.TB
	errors int
}

func (n *noted) Errorf(string, ...any) { n.errors++ }

func TestDeviceWatchesItsCapabilities(t *testing.T) {
	super := func(kind uint8) []byte { return Super(p4.UDP(1, 2, make([]byte, 100)), kind, 50) }
	for _, c := range []struct {
		name  string
		caps  vswitch.Caps
		frame []byte
		bad   bool
	}{
		{"finished", 0, p4.UDP(1, 2, nil), false},
		{"partial", 0, Partial(p4.UDP(1, 2, nil)), true},
		{"partial", vswitch.CapCsum, Partial(p4.UDP(1, 2, nil)), false},
		{"TSO", vswitch.CapCsum, super(vswitch.GSOTCPv4), true},
		{"TSO", vswitch.CapCsum | vswitch.CapTSO, super(vswitch.GSOTCPv6 | vswitch.GSOECN), false},
		{"USO", vswitch.CapCsum | vswitch.CapTSO, super(vswitch.GSOUDPL4), true},
		{"USO", All, super(vswitch.GSOUDPL4), false},
		{"UFO", All, super(vswitch.GSOUDP), true},
		{"stub", All, make([]byte, 23), true},
	} {
		n := &noted{TB: t}
		NewDevice(n, c.caps).Write(c.frame)
		a, _ := Cable(n, c.caps)
		a.Write(c.frame)
		if (n.errors == 2) != c.bad || n.errors == 1 {
			t.Errorf("%s with capabilities %d: %d errors", c.name, c.caps, n.errors)
		}
	}
}

func TestDevice(t *testing.T) {
	d := NewDevice(t, 0)
	frame := p4.UDP(1, 2, []byte("hello"))
	b := make([]byte, 40)
	if _, e := d.Read(b); e != unix.EAGAIN {
		t.Errorf("an empty device says %v", e)
	}
	d.Push(frame, frame)
	if n, e := d.Read(b); e != 0 || n != 40 || !bytes.Equal(b, frame[:40]) {
		t.Errorf("a long frame is cut to %d bytes, %v", n, e)
	}
	if d.Pending() != 1 {
		t.Errorf("%d pending", d.Pending())
	}
	d.Write(frame)
	d.Fail(unix.EIO)
	if e := d.Write(frame); e != unix.EIO {
		t.Errorf("a failing device says %v", e)
	}
	d.Fail(0)
	if got := d.Take(); len(got) != 1 || !bytes.Equal(got[0], frame) || d.Written() != 1 || len(d.Take()) != 0 {
		t.Errorf("%d frames taken, %d written", len(got), d.Written())
	}
	d.Discard()
	if d.Write(frame); len(d.Take()) != 0 || d.Written() != 2 {
		t.Error("discarded frames are kept, or not counted")
	}
	if d.Close(); !d.Closed() {
		t.Error("not closed")
	}
}

func TestCable(t *testing.T) {
	a, b := Cable(t, All)
	frame := p4.UDP(1, 2, nil)
	a.Write(frame)
	buf := make([]byte, 2000)
	if _, e := a.Read(buf); e != unix.EAGAIN {
		t.Error("the sender reads its own frame")
	}
	if n, e := b.Read(buf); e != 0 || !bytes.Equal(buf[:n], frame) {
		t.Errorf("%d bytes, %v", n, e)
	}
}

// numbered makes frames that can be told apart by the last bytes.
func numbered(i int) []byte { return p4.UDP(1, 2, []byte{byte(i >> 8), byte(i)}) }

func number(b []byte) int { return int(b[len(b)-2])<<8 | int(b[len(b)-1]) }

// TestFaults: each fault happens, in both directions, as often as it should,
// alone and with the others, and the counters tell the truth.
func TestFaults(t *testing.T) {
	const frames = 4000
	for _, c := range []struct {
		name string
		r    Rates
	}{{"none", Rates{}}, {"drop", Rates{Drop: 0.1}}, {"duplicate", Rates{Duplicate: 0.1}}, {"reorder", Rates{Reorder: 0.1}}, {"corrupt", Rates{Corrupt: 0.1}}, {"all", Rates{0.1, 0.1, 0.1, 0.1}}} {
		t.Run(c.name, func(t *testing.T) {
			for direction := range 2 {
				d := NewDevice(t, All)
				f := NewFault(t, d, c.r, c.r)
				var got [][]byte
				if direction == FromDevice {
					for i := range frames {
						d.Push(numbered(i))
					}
					b := make([]byte, 200)
					for {
						n, e := f.Read(b)
						if e != 0 {
							break
						}
						got = append(got, append([]byte(nil), b[:n]...))
					}
				} else {
					for i := range frames {
						f.Write(numbered(i))
					}
					f.Heal()
					f.Write(numbered(frames)) // brings along what is held
					got = d.Take()
				}
				k := f.Count(direction)
				if k.Passed+k.Reordered+k.Dropped != frames+direction || len(got) != k.Passed+k.Reordered+k.Duplicated {
					t.Errorf("direction %d: %d frames came out; %+v", direction, len(got), k)
				}
				seen, late, broken := map[int]int{}, 0, 0
				last := -1
				for _, b := range got {
					if i := number(b); bytes.Equal(b, numbered(i)) {
						if seen[i]++; i < last {
							late++
						} else {
							last = i
						}
					} else {
						broken++
					}
				}
				for fault, x := range map[string]struct {
					rate  float64
					count int
					shows int
				}{
					"drop": {c.r.Drop, k.Dropped, k.Dropped}, "duplicate": {c.r.Duplicate, k.Duplicated, len(got) - k.Passed - k.Reordered},
					"reorder": {c.r.Reorder, k.Reordered, late}, "corrupt": {c.r.Corrupt, k.Corrupted, broken},
				} {
					if x.rate == 0 && (x.count != 0 || x.shows != 0) || x.rate != 0 && (x.count < frames/20 || x.count > frames/5 || x.shows < x.count/2) {
						t.Errorf("direction %d: %s at %v happened %d times of %d and shows %d times", direction, fault, x.rate, x.count, frames, x.shows)
					}
				}
			}
		})
	}
}

// TestSeedRepeats: the same seed makes the same faults.
func TestSeedRepeats(t *testing.T) {
	run := func(seed string) FaultCount {
		t.Setenv(SeedVariable, seed)
		d := NewDevice(t, All)
		d.Discard()
		f := NewFault(t, d, Rates{}, Rates{0.2, 0.2, 0.2, 0.2})
		for i := range 1000 {
			f.Write(numbered(i))
		}
		return f.Count(ToDevice)
	}
	if a, b, c := run("42"), run("42"), run("43"); a != b || a == c {
		t.Errorf("42: %+v, 42: %+v, 43: %+v", a, b, c)
	}
}
