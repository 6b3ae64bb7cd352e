package vswitch

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Token names what epoll or the run queue speaks of: a kind, a generation and
// an index. Descriptors are reused by the kernel at once; the generation tells
// an old event from a new owner.
type Token uint64

// Kinds of tokens. Those from KindGateway on belong to the Gateway.
const (
	kindWake = iota
	kindPort
	KindGateway
)

// MakeToken packs a token: kind of 8 bits, generation of 24, index of 32.
func MakeToken(kind uint8, gen, index uint32) Token {
	return Token(kind)<<56 | Token(gen&0xffffff)<<32 | Token(index)
}

// Kind, Gen and Index take a token apart.
func (t Token) Kind() uint8   { return uint8(t >> 56) }
func (t Token) Gen() uint32   { return uint32(t>>32) & 0xffffff }
func (t Token) Index() uint32 { return uint32(t) }

const (
	// MaxFrame is the longest frame a TAP gives: 64 KiB and its headers.
	MaxFrame = 65536 + 256

	portFrames = 64      // a port's share of one turn, in frames
	portBytes  = 1 << 20 // and in bytes
	maxEvents  = 256
	spinFor    = 50_000 // ns without work before the thread sleeps
)

// Config makes a Switch.
type Config struct {
	Now  func() int64 // monotonic nanoseconds; nil for the kernel's clock
	Logf func(format string, args ...any)
	// Gone is called on its own goroutine when a port's device reports that its
	// namespace is gone; the owner then calls RemovePort.
	Gone func(*Port)
	// Spin is how long the loop polls before it sleeps, in nanoseconds; 0 for the
	// default, negative for never.
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

	queue  []Token
	spare  []Token
	events [maxEvents]unix.EpollEvent

	frame, gsoFrame Frame
	readBuf         []byte
	scratch         []byte
	segBuf          []byte
	mem             []byte

	mu       sync.Mutex
	commands []func()
	stopping atomic.Bool
	awake    atomic.Bool
	done     chan struct{}
}

// New makes a switch without ports. gw may be set once with SetGateway before
// Run.
func New(cfg Config) (*Switch, error) {
	s := &Switch{cfg: cfg, nextID: 1, done: make(chan struct{}), portGen: 1}
	if s.cfg.Now == nil {
		s.cfg.Now = Monotonic
	}
	if s.cfg.Logf == nil {
		s.cfg.Logf = func(string, ...any) {}
	}
	if s.cfg.Spin == 0 {
		s.cfg.Spin = spinFor
	}
	var err error
	if s.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if s.wakefd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		unix.Close(s.epfd)
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	if s.mem, err = OffHeap(3 * 128 << 10); err != nil {
		unix.Close(s.epfd)
		unix.Close(s.wakefd)
		return nil, err
	}
	s.readBuf, s.scratch, s.segBuf = s.mem[:128<<10], s.mem[128<<10:256<<10], s.mem[256<<10:]
	s.readBuf = s.readBuf[:VnetLen+MaxFrame]
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
		linkLocal: LinkLocal(c.MAC), oldest: fdbNone, newest: fdbNone}
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
	br.fdb.program(c.MAC, p, s.now32)
	return p, nil
}

// checkMAC refuses an address that another port was attached with. One that was
// only learned is taken over, or a trusted port could keep containers out.
func (s *Switch) checkMAC(c *PortConfig) error {
	br := c.Bridge
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
	if fd := p.Device.FD(); fd >= 0 {
		s.Unwatch(fd)
	}
	if s.gateway != nil {
		s.gateway.PortGone(p)
	}
	br := p.bridge
	br.fdb.drop(p)
	br.ports = slices.DeleteFunc(br.ports, func(x *Port) bool { return x == p })
	br.gen++
	if p.Spoof {
		br.trusted--
	}
	p.gen++
	s.ports[p.ID] = nil
	s.freeIDs = append(s.freeIDs, p.ID)
	return p.Device
}

// Watch registers fd with epoll under t.
func (s *Switch) Watch(fd int, events uint32, t Token) error {
	ev := unix.EpollEvent{Events: events}
	*(*Token)(unsafe.Pointer(&ev.Fd)) = t
	if err := unix.EpollCtl(s.epfd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("epoll: watch descriptor %d: %w", fd, err)
	}
	return nil
}

// Rewatch arms fd again: what is ready now is reported anew.
func (s *Switch) Rewatch(fd int, events uint32, t Token) {
	ev := unix.EpollEvent{Events: events}
	*(*Token)(unsafe.Pointer(&ev.Fd)) = t
	unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(s.epfd), unix.EPOLL_CTL_MOD, uintptr(fd), uintptr(unsafe.Pointer(&ev)), 0, 0)
}

// Unwatch takes fd out of epoll.
func (s *Switch) Unwatch(fd int) { _ = unix.EpollCtl(s.epfd, unix.EPOLL_CTL_DEL, fd, nil) }

// Enqueue puts t at the end of the run queue. The caller sees to it that a
// token stands there once.
func (s *Switch) Enqueue(t Token) { s.queue = append(s.queue, t) }

func (s *Switch) enqueuePort(p *Port) {
	if !p.queued && p.Device.FD() >= 0 {
		p.queued = true
		s.queue = append(s.queue, MakeToken(kindPort, p.wake, uint32(p.ID)))
	}
}

// Do runs f on the loop's thread, after what was handed over before, and
// returns when it has run. It is false if the switch has stopped: f did not run.
// It must not be called from the loop's thread.
func (s *Switch) Do(f func()) bool {
	ran := make(chan struct{})
	if !s.Post(func() { f(); close(ran) }) {
		return false
	}
	select {
	case <-ran:
		return true
	case <-s.done:
		select {
		case <-ran:
			return true
		default:
			return false
		}
	}
}

// Post is Do without waiting.
func (s *Switch) Post(f func()) bool {
	s.mu.Lock()
	if s.stopping.Load() {
		s.mu.Unlock()
		return false
	}
	s.commands = append(s.commands, f)
	s.mu.Unlock()
	if s.awake.CompareAndSwap(false, true) {
		one := uint64(1)
		unix.Write(s.wakefd, (*[8]byte)(unsafe.Pointer(&one))[:])
	}
	return true
}

// Close ends Run and waits for it; ports stay attached and their devices open.
func (s *Switch) Close() {
	s.mu.Lock()
	already := s.stopping.Swap(true)
	s.mu.Unlock()
	if !already {
		one := uint64(1)
		unix.Write(s.wakefd, (*[8]byte)(unsafe.Pointer(&one))[:])
	}
	<-s.done
}

// Run is the loop. It locks its thread and returns after Close.
func (s *Switch) Run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(s.done)
	idleSince := int64(0)
	for {
		n := s.wait(s.timeout(&idleSince))
		s.tick()
		if n > 0 {
			idleSince = 0
		}
		for i := range n {
			s.event(&s.events[i])
		}
		if !s.turn() {
			return
		}
		if len(s.queue) > 0 {
			idleSince = 0
		}
	}
}

// Poll does one turn without waiting, for switches whose devices have no
// descriptor (tests): it reads every port, runs the queue and the timers.
func (s *Switch) Poll() {
	s.tick()
	n := s.wait(0)
	for i := range n {
		s.event(&s.events[i])
	}
	for _, p := range s.ports {
		if p != nil && p.Device.FD() < 0 {
			s.drain(p)
		}
	}
	for {
		s.turn()
		if len(s.queue) == 0 {
			return
		}
	}
}

// turn works through the queue as it stands, then through commands and timers.
// It returns false when the switch is to stop.
func (s *Switch) turn() bool {
	q := s.queue
	s.queue = s.spare[:0]
	for _, t := range q {
		if t.Kind() == kindPort {
			s.runPort(t)
		} else if s.gateway != nil && s.gateway.Run(t) {
			s.queue = append(s.queue, t)
		}
		if s.gateway != nil {
			s.gateway.Flush()
		}
	}
	s.spare = q[:0]
	if s.awake.Load() {
		s.obey()
	}
	if s.gateway != nil && s.nextDue != 0 && s.nowNs >= s.nextDue {
		s.nextDue = s.gateway.Expire(s.nowNs)
		s.gateway.Flush()
	}
	return !s.stopping.Load()
}

// Schedule asks for Expire at the time at or before.
func (s *Switch) Schedule(at int64) {
	if s.nextDue == 0 || at < s.nextDue {
		s.nextDue = at
	}
}

func (s *Switch) obey() {
	s.awake.Store(false)
	s.mu.Lock()
	todo := s.commands
	s.commands = nil
	s.mu.Unlock()
	for _, f := range todo {
		f()
	}
	if s.gateway != nil {
		s.gateway.Flush()
	}
}

// timeout is how long to wait for events, in ms: not at all while there is
// work or hope for it, else until the next timer.
func (s *Switch) timeout(idleSince *int64) int {
	if len(s.queue) > 0 || s.awake.Load() {
		return 0
	}
	now := s.cfg.Now()
	if *idleSince == 0 {
		*idleSince = now
	}
	if now-*idleSince < s.cfg.Spin {
		return 0
	}
	if s.nextDue == 0 {
		return -1
	}
	if d := s.nextDue - now; d > 0 {
		return int((d + 999_999) / 1_000_000)
	}
	return 0
}

// wait collects events. A call that cannot block is a raw system call; one
// that may tells the scheduler, since a blocked thread would hold up the
// garbage collector.
func (s *Switch) wait(ms int) int {
	if ms == 0 {
		n, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(s.epfd), uintptr(unsafe.Pointer(&s.events[0])), maxEvents, 0, 0, 0)
		if e != 0 {
			return 0
		}
		return int(n)
	}
	n, _, e := unix.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(s.epfd), uintptr(unsafe.Pointer(&s.events[0])), maxEvents, uintptr(ms), 0, 0)
	if e != 0 {
		return 0 // EINTR: the scheduler's preemption signal
	}
	return int(n)
}

func (s *Switch) event(ev *unix.EpollEvent) {
	t := *(*Token)(unsafe.Pointer(&ev.Fd))
	switch t.Kind() {
	case kindWake:
		var b [8]byte
		unix.RawSyscall(unix.SYS_READ, uintptr(s.wakefd), uintptr(unsafe.Pointer(&b[0])), 8)
		s.awake.Store(true)
	case kindPort:
		p := s.port(PortID(t.Index()))
		if p == nil || p.wake != t.Gen() {
			return
		}
		if ev.Events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
			s.Unwatch(p.Device.FD())
			if s.cfg.Gone != nil {
				go s.cfg.Gone(p)
			}
			return
		}
		s.enqueuePort(p)
	default:
		if s.gateway != nil {
			s.gateway.Event(t, ev.Events)
		}
	}
}

func (s *Switch) runPort(t Token) {
	p := s.port(PortID(t.Index()))
	if p == nil || p.wake != t.Gen() {
		return
	}
	p.queued = false
	if s.drain(p) {
		s.enqueuePort(p)
	}
}

// drain reads frames from p until it is empty or has had its share. It returns
// true if more may be waiting.
func (s *Switch) drain(p *Port) bool {
	bytes := 0
	for range portFrames {
		n, e := p.Device.Read(s.readBuf)
		if e != 0 {
			return false // EAGAIN, or the device is gone and epoll says so
		}
		s.input(p, s.readBuf[:n])
		if bytes += n; bytes >= portBytes {
			return true
		}
	}
	return true
}
