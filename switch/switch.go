package vswitch

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Config makes a Switch.
type Config struct {
	Now  func() int64 // monotonic nanoseconds; nil for the kernel's clock
	Logf func(format string, args ...any)
	// Gone is called on its own goroutine when a port's device reports that its
	// namespace is gone; the owner then calls RemovePort.
	Gone func(*Port)
	// Spin is how long the loop polls at most before it sleeps, in nanoseconds; 0
	// for the default, negative for never.
	Spin int64
}

// Switch is one shard: an epoll set, a run queue, ports and bridges on one
// locked thread. Everything but New, Do, Close and Run belongs to that thread.
type Switch struct {
	cfg     Config
	epfd    int
	wakefd  int
	gateway Gateway
	ports   [MaxPorts]*Port
	freeIDs []PortID
	nextID  PortID
	bridges []*Bridge

	policyGen uint64
	portGen   uint64 // the generation the next port starts with
	nowNs     int64
	now32     uint32
	nextDue   int64
	shapeDue  int64     // of shapes and of queriers
	capture   *Capture  // nil: none
	failed    *failures // nil: nothing yet
	live      *Live     // nil: nobody follows packets
	trace     *Trace    // of the packet that is decided about, if it is followed
	spin      spin
	turns     uint64

	queue  []Token
	spare  []Token
	later  bool    // the gateway has something for when nothing else is to be done
	fresh  []Token // collect's, between calls
	events [maxEvents]unix.EpollEvent

	frame, gsoFrame Frame
	readBuf         []byte
	scratch         []byte
	segBuf          []byte
	train           train
	merge           merge
	mem             []byte

	visitors fifo // what other shards have left, being handled
	visiting bool

	mu       sync.Mutex
	commands []func()
	inbox    fifo           // what other shards leave
	posting  sync.WaitGroup // Posts that are not over
	ran      bool
	stopping atomic.Bool
	awake    atomic.Bool
	done     chan struct{}
}

// New makes a switch without ports. gw may be set once with SetGateway before
// Run.
func New(cfg Config) (*Switch, error) {
	s := &Switch{cfg: cfg, nextID: 1, done: make(chan struct{}), portGen: 1, spin: newSpin(cfg.Spin)}
	if s.cfg.Now == nil {
		s.cfg.Now = Monotonic
	}
	if s.cfg.Logf == nil {
		s.cfg.Logf = func(string, ...any) {}
	}
	var err error
	if s.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if s.wakefd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		unix.Close(s.epfd)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	const read = portBytes + VnetLen + MaxFrame // a port's share, and the frame that exceeds it
	if s.mem, err = OffHeap(3*128<<10 + read); err != nil {
		unix.Close(s.epfd)
		unix.Close(s.wakefd)
		return nil, err
	}
	s.scratch, s.segBuf, s.train.buf = s.mem[:128<<10], s.mem[128<<10:256<<10], s.mem[256<<10:384<<10]
	s.readBuf = s.mem[384<<10:]
	s.merge.spot = -1
	s.tick()
	if err := s.Watch(s.wakefd, unix.EPOLLIN, MakeToken(kindWake, 0, 0)); err != nil {
		return nil, err
	}
	return s, nil
}

// Monotonic is the kernel's monotonic clock in nanoseconds. It counts from an
// arbitrary start, never 0.
func Monotonic() int64 { return runtimeNano() }

// OffHeap maps n bytes of zeroed memory that the garbage collector neither
// scans nor moves.
func OffHeap(n int) ([]byte, error) {
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes of memory: %w", n, err)
	}
	return b, nil
}

// SetGateway connects the switch with what answers for its gateways.
func (s *Switch) SetGateway(g Gateway) { s.gateway = g }

// Now is the loop's time: read once a turn.
func (s *Switch) Now() int64 { return s.nowNs }

func (s *Switch) seconds() uint32 { return s.now32 }

func (s *Switch) tick() {
	s.nowNs = s.cfg.Now()
	s.now32 = uint32(s.nowNs / 1e9)
}

func (s *Switch) logf(format string, args ...any) { s.cfg.Logf(format, args...) }

func (s *Switch) port(id PortID) *Port { return s.ports[id&(MaxPorts-1)] }

// Port is the port with that id, or nil.
func (s *Switch) Port(id PortID) *Port { return s.port(id) }

// Bridges lists the bridges; the slice is borrowed.
func (s *Switch) Bridges() []*Bridge { return s.bridges }

// BridgeOf is the bridge one of whose subnets holds the address, by test of
// each; nil if there is none.
func (s *Switch) BridgeOf(contains func(*Bridge) bool) *Bridge {
	for _, b := range s.bridges {
		if contains(b) {
			return b
		}
	}
	return nil
}

// PolicyChanged lets all cached decisions die.
func (s *Switch) PolicyChanged() { s.policyGen++ }

// AddBridge makes an empty bridge.
func (s *Switch) AddBridge(c BridgeConfig) *Bridge {
	id := uint16(1)
	for slices.ContainsFunc(s.bridges, func(b *Bridge) bool { return b.ID == id }) {
		id++
	}
	b := &Bridge{BridgeConfig: c, ID: id, MAC: gatewayMAC(c), sw: s, fdb: newFDB(c.MaxFDB)}
	if !c.NoSnooping {
		b.groups = newGroupTable(s.nowNs)
	}
	s.bridges = append(s.bridges, b)
	s.policyGen++
	return b
}

// RemoveBridge takes an empty bridge away.
func (s *Switch) RemoveBridge(b *Bridge) error {
	if len(b.ports) > 0 {
		return fmt.Errorf("bridge %s has %d ports", b.Name, len(b.ports))
	}
	s.bridges = slices.DeleteFunc(s.bridges, func(x *Bridge) bool { return x == b })
	s.policyGen++
	return nil
}

// AddPort attaches a device. On success the port owns it until RemovePort.
func (s *Switch) AddPort(c PortConfig) (*Port, error) {
	if err := s.checkMAC(&c); err != nil {
		return nil, err
	}
	id, ok := s.newID()
	if !ok {
		return nil, fmt.Errorf("port %s: the switch has its %d ports", c.Name, MaxPorts-1)
	}
	s.portGen++
	p := &Port{ID: id, PortConfig: c, sw: s, bridge: c.Bridge, caps: c.Device.Caps(), gen: s.portGen << 20,
		linkLocal: LinkLocal(c.MAC), oldest: fdbNone, newest: fdbNone, oldestGroup: groupNone, newestGroup: groupNone}
	if fd := c.Device.FD(); fd >= 0 {
		if err := s.Watch(fd, unix.EPOLLIN, MakeToken(kindPort, uint32(s.portGen), uint32(id))); err != nil {
			s.freeIDs = append(s.freeIDs, id)
			return nil, fmt.Errorf("port %s: %w", c.Name, err)
		}
	}
	p.wake = uint32(s.portGen) & 0xffffff
	s.ports[id] = p
	br := c.Bridge
	br.ports = append(br.ports, p)
	br.gen++
	if c.Spoof {
		br.trusted++
	}
	if c.Host {
		br.host = p
	} else {
		br.fdb.program(c.MAC, p, s.now32)
	}
	if c.in == nil {
		c.in = newMeter(c.Shape)
	}
	s.setShape(p, c.Shape, c.in)
	return p, nil
}

// checkMAC refuses an address that another port was attached with. One that was
// only learned is taken over, or a trusted port could keep containers out.
func (s *Switch) checkMAC(c *PortConfig) error {
	br := c.Bridge
	if c.Host {
		return checkHost(c)
	}
	if c.MAC.Multicast() {
		return fmt.Errorf("port %s: %s is the address of a group: give it another", c.Name, c.MAC)
	}
	if c.MAC == br.MAC {
		return fmt.Errorf("port %s: %s is the gateway of bridge %s: give it another", c.Name, c.MAC, br.Name)
	}
	if i := br.fdb.find(c.MAC, s.now32); i != fdbNone && br.fdb.entries[i].static {
		return fmt.Errorf("port %s: bridge %s has %s already, on port %s: give it another", c.Name, br.Name, c.MAC, s.port(br.fdb.entries[i].port).Name)
	}
	return nil
}

// SetAddrs replaces the addresses that the port may use.
func (s *Switch) SetAddrs(p *Port, c PortConfig) { p.Addrs = c.Addrs; p.gen++; p.bridge.gen++ }

func (s *Switch) newID() (PortID, bool) {
	if n := len(s.freeIDs); n > 0 {
		id := s.freeIDs[0] // the longest unused first: old tokens and logs stay clear
		s.freeIDs = s.freeIDs[1:]
		return id, true
	}
	if s.nextID >= MaxPorts {
		return 0, false
	}
	s.nextID++
	return s.nextID - 1, true
}

// RemovePort detaches a port and returns its device, which the caller closes
// elsewhere: closing a TAP takes 20 ms.
func (s *Switch) RemovePort(p *Port) Device {
	if s.ports[p.ID] != p {
		return nil
	}
	if s.train.port == p {
		s.depart()
	}
	if fd := p.Device.FD(); fd >= 0 {
		s.Unwatch(fd)
	}
	p.shape = nil // what it held is gone with it
	if s.gateway != nil {
		s.gateway.PortGone(p)
	}
	br := p.bridge
	br.fdb.drop(p)
	if br.host == p {
		br.host = nil
	}
	br.ports = slices.DeleteFunc(br.ports, func(x *Port) bool { return x == p })
	br.gen++
	if p.Spoof {
		br.trusted--
	}
	if br.groups != nil {
		br.groups.drop(p)
	}
	p.gen++
	s.ports[p.ID] = nil
	s.freeIDs = append(s.freeIDs, p.ID)
	return p.Device
}
