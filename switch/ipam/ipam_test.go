package ipam

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func newPool(t *testing.T, subnet, gateway string) *Pool {
	t.Helper()
	var gw netip.Addr
	if gateway != "" {
		gw = netip.MustParseAddr(gateway)
	}
	p, err := New(netip.MustParsePrefix(subnet), gw)
	if err != nil {
		t.Fatalf("New(%s, %s): %v", subnet, gateway, err)
	}
	return p
}

func TestNewRefuses(t *testing.T) {
	for _, tt := range []struct {
		name    string
		subnet  netip.Prefix
		gateway string
		is      error
		says    []string
	}{
		{"no subnet", netip.Prefix{}, "", nil, []string{"172.17.0.0/16"}},
		{"host bits", netip.MustParsePrefix("172.17.0.1/16"), "", nil, []string{"172.17.0.1/16", "write 172.17.0.0/16"}},
		{"mapped", netip.MustParsePrefix("::ffff:172.17.0.0/112"), "", nil, []string{"IPv4 written as IPv6"}},
		{"gateway outside", netip.MustParsePrefix("172.17.0.0/16"), "172.18.0.1", ErrOutOfSubnet, []string{"172.18.0.1", "172.17.0.0/16"}},
		{"gateway of the other family", netip.MustParsePrefix("172.17.0.0/16"), "fd00::1", ErrOutOfSubnet, []string{"fd00::1"}},
		{"gateway mapped", netip.MustParsePrefix("172.17.0.0/16"), "::ffff:172.17.0.1", ErrOutOfSubnet, nil},
		{"gateway with a zone", netip.MustParsePrefix("fe80::/64"), "fe80::1%eth0", ErrOutOfSubnet, nil},
		{"gateway is the network", netip.MustParsePrefix("172.17.0.0/16"), "172.17.0.0", ErrReserved, []string{"172.17.0.0 in 172.17.0.0/16"}},
		{"gateway is the broadcast", netip.MustParsePrefix("172.17.0.0/16"), "172.17.255.255", ErrReserved, nil},
		{"gateway is the anycast", netip.MustParsePrefix("fd00::/64"), "fd00::", ErrReserved, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var gw netip.Addr
			if tt.gateway != "" {
				gw = netip.MustParseAddr(tt.gateway)
			}
			p, err := New(tt.subnet, gw)
			if err == nil || p != nil {
				t.Fatalf("New = %v, %v, want an error", p, err)
			}
			if tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("error %q is not %q", err, tt.is)
			}
			for _, s := range tt.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("error %q does not say %q", err, s)
				}
			}
		})
	}
}

// TestAllocateAll takes whole small subnets and so sees what is kept back.
func TestAllocateAll(t *testing.T) {
	for _, tt := range []struct {
		subnet, gateway string
		want            []string
	}{
		{"172.17.0.0/29", "172.17.0.1", []string{"172.17.0.2", "172.17.0.3", "172.17.0.4", "172.17.0.5", "172.17.0.6"}},
		{"172.17.0.0/29", "172.17.0.4", []string{"172.17.0.1", "172.17.0.2", "172.17.0.3", "172.17.0.5", "172.17.0.6"}},
		{"172.17.0.8/30", "", []string{"172.17.0.9", "172.17.0.10"}},
		{"172.17.0.0/30", "172.17.0.2", []string{"172.17.0.1"}},
		{"172.17.0.0/31", "172.17.0.0", []string{"172.17.0.1"}},
		{"172.17.0.0/31", "", []string{"172.17.0.0", "172.17.0.1"}},
		{"172.17.0.7/32", "", []string{"172.17.0.7"}},
		{"172.17.0.7/32", "172.17.0.7", nil},
		{"255.255.255.252/30", "", []string{"255.255.255.253", "255.255.255.254"}},
		{"255.255.255.254/31", "", []string{"255.255.255.254", "255.255.255.255"}},
		{"fd00:18::/126", "fd00:18::1", []string{"fd00:18::2", "fd00:18::3"}},
		{"fd00:18::/127", "", []string{"fd00:18::", "fd00:18::1"}},
		{"fd00:18::5/128", "", []string{"fd00:18::5"}},
		{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127", "", []string{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}},
	} {
		t.Run(tt.subnet+" "+tt.gateway, func(t *testing.T) {
			p := newPool(t, tt.subnet, tt.gateway)
			for range 2 { // the second time after giving all back, highest first
				var got []string
				for {
					a, err := p.Allocate()
					if err != nil {
						if !errors.Is(err, ErrExhausted) || !strings.Contains(err.Error(), tt.subnet) {
							t.Errorf("error %q, want ErrExhausted that names %s", err, tt.subnet)
						}
						break
					}
					got = append(got, a.String())
				}
				if !slices.Equal(got, tt.want) {
					t.Fatalf("got %v, want %v", got, tt.want)
				}
				if p.InUse() != len(tt.want) {
					t.Errorf("InUse = %d, want %d", p.InUse(), len(tt.want))
				}
				for _, a := range slices.Backward(got) {
					p.Release(netip.MustParseAddr(a))
				}
			}
		})
	}
}

func TestReserve(t *testing.T) {
	p := newPool(t, "172.17.0.0/16", "172.17.0.1")
	p6 := newPool(t, "fd00:18::/64", "fd00:18::1")
	for _, tt := range []struct {
		pool *Pool
		addr string
		want error
	}{
		{p, "172.17.0.3", nil},
		{p, "172.17.0.3", ErrTaken},
		{p, "172.17.255.254", nil},
		{p, "172.17.0.0", ErrReserved},
		{p, "172.17.0.1", ErrReserved},
		{p, "172.17.255.255", ErrReserved},
		{p, "172.18.0.2", ErrOutOfSubnet},
		{p, "::ffff:172.17.0.9", ErrOutOfSubnet},
		{p, "fd00:18::2", ErrOutOfSubnet},
		{p6, "fd00:18::ffff:ffff:ffff:ffff", nil},
		{p6, "fd00:18::ffff:ffff:ffff:ffff", ErrTaken},
		{p6, "fd00:18::", ErrReserved},
		{p6, "fd00:18::1", ErrReserved},
		{p6, "fd00:18::2%eth0", ErrOutOfSubnet},
		{p6, "fd00:19::2", ErrOutOfSubnet},
	} {
		err := tt.pool.Reserve(netip.MustParseAddr(tt.addr))
		if !errors.Is(err, tt.want) {
			t.Errorf("Reserve(%s) = %v, want %v", tt.addr, err, tt.want)
		}
		if err != nil && !(strings.Contains(err.Error(), tt.addr) && strings.Contains(err.Error(), tt.pool.Subnet().String())) {
			t.Errorf("Reserve(%s): error %q does not name address and subnet", tt.addr, err)
		}
	}
	if err := p.Reserve(netip.Addr{}); !errors.Is(err, ErrOutOfSubnet) {
		t.Errorf("Reserve of no address = %v, want %v", err, ErrOutOfSubnet)
	}
	if p.InUse() != 2 || p6.InUse() != 1 {
		t.Errorf("InUse = %d and %d, want 2 and 1: a refusal must change nothing", p.InUse(), p6.InUse())
	}
	for _, want := range []string{"172.17.0.2", "172.17.0.4"} {
		if a, err := p.Allocate(); err != nil || a != netip.MustParseAddr(want) {
			t.Errorf("Allocate = %v, %v, want %s", a, err, want)
		}
	}
}

// TestReleaseForeign gives back what was never taken.
func TestReleaseForeign(t *testing.T) {
	p := newPool(t, "172.17.0.0/30", "172.17.0.1")
	for _, a := range []string{"172.17.0.0", "172.17.0.1", "172.17.0.2", "172.17.0.3", "172.16.0.2", "::1"} {
		p.Release(netip.MustParseAddr(a))
	}
	p.Release(netip.Addr{})
	if a, err := p.Allocate(); err != nil || a != netip.MustParseAddr("172.17.0.2") {
		t.Fatalf("Allocate = %v, %v, want 172.17.0.2", a, err)
	}
	if a, err := p.Allocate(); !errors.Is(err, ErrExhausted) {
		t.Errorf("Allocate = %v, %v, want ErrExhausted", a, err)
	}
}

// TestLargeSubnet would not end, or not fit, if a pool kept anything per
// address that is free.
func TestLargeSubnet(t *testing.T) {
	for _, subnet := range []string{"fd00::/8", "fd00:18::/64", "10.0.0.0/8"} {
		prefix := netip.MustParsePrefix(subnet)
		if n := testing.AllocsPerRun(10, func() {
			if _, err := New(prefix, netip.Addr{}); err != nil {
				t.Fatal(err)
			}
		}); n > 8 {
			t.Errorf("New(%s) allocates %v times", subnet, n)
		}
		p := newPool(t, subnet, "")
		want := prefix.Addr()
		for range 1000 {
			want = want.Next()
			if a, err := p.Allocate(); err != nil || a != want {
				t.Fatalf("%s: Allocate = %v, %v, want %v", subnet, a, err, want)
			}
		}
	}
}

func TestMAC(t *testing.T) {
	for _, tt := range []struct {
		addr string
		want [6]byte
	}{
		{"172.17.0.2", [6]byte{0x02, 0x42, 172, 17, 0, 2}},
		{"255.255.255.254", [6]byte{0x02, 0x42, 255, 255, 255, 254}},
		{"::ffff:172.17.0.2", [6]byte{0x02, 0x42, 172, 17, 0, 2}},
		{"fd00:18::1:2", [6]byte{0x02, 0x42, 0, 1, 0, 2}},
	} {
		if got := MAC(netip.MustParseAddr(tt.addr)); got != tt.want {
			t.Errorf("MAC(%s) = %x, want %x", tt.addr, got, tt.want)
		}
	}
}

// model is what a Pool is, said naively: a state for each address.
type model struct {
	addrs []netip.Addr // of the subnet, ascending
	state map[netip.Addr]string
}

func (m *model) lowestFree() (netip.Addr, bool) {
	for _, a := range m.addrs {
		if m.state[a] == "free" {
			return a, true
		}
	}
	return netip.Addr{}, false
}

func (m *model) inUse() (n int) {
	for _, s := range m.state {
		if s == "taken" {
			n++
		}
	}
	return n
}

func TestAgainstModel(t *testing.T) {
	for _, tt := range []struct {
		subnet, gateway string
		reserved        []string
	}{
		{"172.17.0.0/27", "172.17.0.1", []string{"172.17.0.0", "172.17.0.1", "172.17.0.31"}},
		{"172.17.0.224/28", "172.17.0.238", []string{"172.17.0.224", "172.17.0.238", "172.17.0.239"}},
		{"255.255.255.240/28", "", []string{"255.255.255.240", "255.255.255.255"}},
		{"fd00:18::/124", "fd00:18::7", []string{"fd00:18::", "fd00:18::7"}},
		{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0/124", "", []string{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0"}},
	} {
		for seed := range uint64(8) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			p := newPool(t, tt.subnet, tt.gateway)
			m := &model{state: map[netip.Addr]string{}}
			for a := p.Subnet().Addr(); p.Subnet().Contains(a); a = a.Next() {
				m.addrs = append(m.addrs, a)
				m.state[a] = "free"
				if slices.Contains(tt.reserved, a.String()) {
					m.state[a] = "reserved"
				}
			}
			for step := range 2000 {
				a := m.addrs[rnd.IntN(len(m.addrs))]
				// Filled and emptied in turn, so that both ends are met.
				take := rnd.IntN(100) < 25+50*(step/100%2)
				switch {
				case take && rnd.IntN(2) == 0:
					got, err := p.Allocate()
					want, ok := m.lowestFree()
					if got != want || ok != (err == nil) {
						t.Fatalf("%s seed %d step %d: Allocate = %v, %v, want %v", tt.subnet, seed, step, got, err, want)
					}
					if ok {
						m.state[want] = "taken"
					}
				case take:
					err := p.Reserve(a)
					want := map[string]error{"reserved": ErrReserved, "taken": ErrTaken}[m.state[a]]
					if !errors.Is(err, want) {
						t.Fatalf("%s seed %d step %d: Reserve(%s) = %v, want %v", tt.subnet, seed, step, a, err, want)
					}
					if err == nil {
						m.state[a] = "taken"
					}
				default:
					p.Release(a)
					if m.state[a] == "taken" {
						m.state[a] = "free"
					}
				}
				if p.InUse() != m.inUse() {
					t.Fatalf("%s seed %d step %d: InUse = %d, want %d", tt.subnet, seed, step, p.InUse(), m.inUse())
				}
			}
		}
	}
}

// BenchmarkChurn is the bad case of the cursor: the lowest address of many
// freed and two taken, over and over.
func BenchmarkChurn(b *testing.B) {
	p, err := New(netip.MustParsePrefix("172.16.0.0/12"), netip.Addr{})
	if err != nil {
		b.Fatal(err)
	}
	var addrs []netip.Addr
	for range 1000 {
		a, _ := p.Allocate()
		addrs = append(addrs, a)
	}
	for b.Loop() {
		p.Release(addrs[0])
		p.Allocate()
		a, _ := p.Allocate()
		p.Release(a)
	}
}

// TestLimit: what is chosen comes from the range, what is asked for from
// anywhere.
func TestLimit(t *testing.T) {
	p := newPool(t, "10.1.0.0/16", "10.1.0.1")
	for _, bad := range []string{"10.2.0.0/24", "10.0.0.0/8", "10.1.4.1/24"} {
		if err := p.Limit(netip.MustParsePrefix(bad)); err == nil {
			t.Errorf("the range %s is taken", bad)
		}
	}
	if err := p.Limit(netip.MustParsePrefix("10.1.4.0/31")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"10.1.4.0", "10.1.4.1"} {
		if a, err := p.Allocate(); err != nil || a.String() != want {
			t.Errorf("%v, %v, want %s", a, err, want)
		}
	}
	if a, err := p.Allocate(); !errors.Is(err, ErrExhausted) {
		t.Errorf("a third of two: %v, %v", a, err)
	}
	outside := netip.MustParseAddr("10.1.0.9")
	if err := p.Reserve(outside); err != nil {
		t.Error(err)
	}
	p.Release(outside)
	p.Release(netip.MustParseAddr("10.1.4.0"))
	if a, err := p.Allocate(); err != nil || a.String() != "10.1.4.0" {
		t.Errorf("%v, %v, want the one that was given back", a, err)
	}
}
