package vswitch_test

import (
	"bytes"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

// running is a switch whose loop runs on the kernel's clock until the test ends.
type running struct {
	*vswitch.Switch
	gateway *switchtest.Gateway
	gone    chan *vswitch.Port
}

func run(t *testing.T) *running {
	t.Helper()
	r := &running{gateway: new(switchtest.Gateway), gone: make(chan *vswitch.Port, 16)}
	sw, err := vswitch.New(vswitch.Config{Spin: -1, Gone: func(p *vswitch.Port) { r.gone <- p }})
	if err != nil {
		t.Fatal(err)
	}
	sw.SetGateway(r.gateway)
	r.Switch = sw
	go sw.Run()
	t.Cleanup(func() {
		sw.Close()
		for id := range vswitch.PortID(vswitch.MaxPorts) {
			if p := sw.Port(id); p != nil {
				p.Device.Close()
			}
		}
	})
	return r
}

// attach adds a port whose other end is the test's.
func (r *running) attach(t *testing.T, br *vswitch.Bridge, last byte, caps vswitch.Caps) (*vswitch.Port, *switchtest.Socket) {
	t.Helper()
	device, test := switchtest.SocketPair(t, caps)
	var p *vswitch.Port
	var err error
	a := v4.Src.As4()
	a[3] = last
	if !r.Do(func() {
		p, err = r.AddPort(vswitch.PortConfig{Name: "p", Bridge: br, Device: device, MAC: vswitch.MAC{0x02, 0x42, a[0], a[1], a[2], a[3]}, Addrs: []addr{addrFrom4(a)}})
	}) || err != nil {
		t.Fatal(err)
	}
	return p, test
}

func (r *running) bridge() (br *vswitch.Bridge) {
	r.Do(func() { br = r.AddBridge(vswitch.BridgeConfig{Name: "bridge"}) })
	return br
}

func TestRunCarriesFrames(t *testing.T) {
	r := run(t)
	br := r.bridge()
	a, x := r.attach(t, br, 2, switchtest.All)
	b, y := r.attach(t, br, 3, 0)
	for i := range 300 { // more than a port's share of one turn
		frame := v4.UDP(uint16(i), 2, pattern(i))
		if e := x.Write(frame); e != 0 {
			t.Fatal(e)
		}
		if got := y.Wait(t); !bytes.Equal(got, frame) {
			t.Fatalf("frame %d is another one", i)
		}
	}
	for range 150 {
		if e := x.Write(v4.UDP(1, 2, data)); e != 0 {
			t.Fatalf("the socket's buffer does not hold 150 frames: %v", e)
		}
	}
	for range 150 {
		y.Wait(t)
	}
	x.Write(switchtest.Super(v4.TCP(ack, pattern(20000)), vswitch.GSOTCPv4, 1448))
	for range 14 {
		switchtest.CheckFinished(t, y.Wait(t))
	}
	r.Do(func() {
		if a.Stats.TxFrames != 451 || b.Stats.RxFrames != 464 {
			t.Errorf("counted %d out, %d in", a.Stats.TxFrames, b.Stats.RxFrames)
		}
	})
}

// TestPortsShareTheLoop: one port sends all it can, and another is heard.
func TestPortsShareTheLoop(t *testing.T) {
	r := run(t)
	br := r.bridge()
	_, greedy := r.attach(t, br, 2, switchtest.All)
	_, modest := r.attach(t, br, 4, switchtest.All)
	_, sink := r.attach(t, br, 3, switchtest.All)
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		flood := v4.UDP(9, 9, pattern(100))
		for !stop.Load() {
			greedy.Write(flood)
		}
	})
	other := with(v4, func(p *switchtest.Packet) {
		p.SrcMAC[5], p.Src = 4, addrFrom4([4]byte{172, 17, 0, 4})
	}).UDP(7, 7, data)
	modest.Write(other)
	for !bytes.Equal(sink.Wait(t), other) {
	}
	stop.Store(true)
	wg.Wait()
}

// TestGone: the end of a device's other side is reported, once, on a goroutine
// that may call Do; the others go on.
func TestGone(t *testing.T) {
	r := run(t)
	br := r.bridge()
	_, x := r.attach(t, br, 2, switchtest.All)
	b, y := r.attach(t, br, 3, switchtest.All)
	_, z := r.attach(t, br, 4, switchtest.All)
	y.Close()
	select {
	case p := <-r.gone:
		if p != b {
			t.Errorf("port %d is reported, not %d", p.ID, b.ID)
		}
		if !r.Do(func() {
			if d := r.RemovePort(p); d != p.Device {
				t.Errorf("RemovePort returned %v", d)
			}
		}) {
			t.Error("Do did not run")
		}
		p.Device.Close()
	case <-time.After(10 * time.Second):
		t.Fatal("nobody was told that the device is gone")
	}
	frame := with(v4, func(p *switchtest.Packet) { p.DstMAC[5] = 4 }).UDP(1, 2, data)
	x.Write(frame)
	if got := z.Wait(t); !bytes.Equal(got, frame) {
		t.Error("another frame")
	}
	if len(r.gone) != 0 {
		t.Error("reported twice")
	}
	r.Do(func() {
		if len(br.Ports()) != 2 || len(r.gateway.Gone) != 1 {
			t.Errorf("%d ports left; the gateway heard of %d", len(br.Ports()), len(r.gateway.Gone))
		}
	})
}

// TestReusedDescriptor: a port takes the number and the descriptor of one that
// was just removed, and an event of the old one does not disturb it.
func TestReusedDescriptor(t *testing.T) {
	r := run(t)
	br := r.bridge()
	_, y := r.attach(t, br, 3, switchtest.All)
	for range 50 {
		p, x := r.attach(t, br, 2, switchtest.All)
		frame := v4.UDP(1, 2, data)
		x.Write(frame)
		y.Wait(t)
		x.Write(frame) // may be on its way while the port goes
		var d vswitch.Device
		r.Do(func() { d = r.RemovePort(p) })
		d.Close()
		x.Close()
		for {
			if _, e := y.Read(make([]byte, 100)); e != 0 {
				break
			}
		}
	}
}

func TestDoFromManyGoroutines(t *testing.T) {
	r := run(t)
	const workers, each = 8, 200
	var wg sync.WaitGroup
	n := 0 // of the loop's thread
	last := make([]int, workers)
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				if i%2 == 0 {
					if !r.Do(func() { n++; last[w] = i }) {
						t.Error("Do did not run")
					}
				} else if !r.Post(func() {
					if n++; last[w] != i-1 {
						t.Errorf("command %d of worker %d ran after %d", i, w, last[w])
					}
					last[w] = i
				}) {
					t.Error("Post did not take it")
				}
			}
		})
	}
	wg.Wait()
	r.Do(func() {
		if n != workers*each {
			t.Errorf("%d commands ran, not %d", n, workers*each)
		}
	})
}

// TestDoWhileFramesFlow attaches, asks and detaches while the loop is busy.
func TestDoWhileFramesFlow(t *testing.T) {
	r := run(t)
	br := r.bridge()
	_, x := r.attach(t, br, 2, switchtest.All)
	_, y := r.attach(t, br, 3, switchtest.All)
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for f := v4.UDP(1, 2, data); !stop.Load(); {
			x.Write(f)
		}
	})
	wg.Go(func() {
		for b := make([]byte, 200); !stop.Load(); {
			y.Read(b)
		}
	})
	for i := range byte(20) {
		p, z := r.attach(t, br, 10+i, switchtest.All)
		r.Do(r.PolicyChanged)
		r.Do(func() { _ = br.FDB() })
		var d vswitch.Device
		r.Do(func() { d = r.RemovePort(p) })
		d.Close()
		z.Close()
	}
	stop.Store(true)
	wg.Wait()
}

// TestCloseRacesCommands: what Post or Do took runs exactly once, what they
// refused never, and nobody hangs.
func TestCloseRacesCommands(t *testing.T) {
	for range 50 {
		sw, err := vswitch.New(vswitch.Config{Spin: -1})
		if err != nil {
			t.Fatal(err)
		}
		go sw.Run()
		var taken, ran atomic.Int64
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for more := true; more; {
					if w%2 == 0 {
						more = sw.Post(func() { ran.Add(1) })
					} else {
						more = sw.Do(func() { ran.Add(1) })
					}
					if more {
						taken.Add(1)
					}
				}
			})
		}
		for range 3 {
			wg.Go(sw.Close)
		}
		wg.Wait()
		if taken.Load() != ran.Load() {
			t.Fatalf("%d commands were taken, %d ran", taken.Load(), ran.Load())
		}
		if sw.Post(func() { t.Error("ran after Close") }) || sw.Do(func() { t.Error("ran after Close") }) {
			t.Error("a stopped switch took a command")
		}
	}
}

// TestLastCommandRuns: a command that is handed over while the loop works on
// its last turn runs, since Post said so.
func TestLastCommandRuns(t *testing.T) {
	sw, err := vswitch.New(vswitch.Config{Spin: -1})
	if err != nil {
		t.Fatal(err)
	}
	go sw.Run()
	ran := false
	sw.Do(func() {
		if !sw.Post(func() { ran = true }) {
			t.Error("Post did not take it")
		}
		go sw.Close()
		for sw.Post(func() {}) { // until Close has been noticed
		}
	})
	sw.Close()
	if !ran {
		t.Error("a command that was taken did not run")
	}
}

// TestCloseGivesBack the descriptors, whether the switch ran or not, and how
// often it is closed.
func TestCloseGivesBack(t *testing.T) {
	open := func() int {
		d, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(d)
	}
	runtime.GC() // whatever other tests left to finalizers
	before := open()
	for i := range 20 {
		sw, err := vswitch.New(vswitch.Config{Spin: -1})
		if err != nil {
			t.Fatal(err)
		}
		ran := false
		sw.Post(func() { ran = true })
		switch i % 3 {
		case 0:
			go sw.Run()
			sw.Do(func() {})
		case 1:
			go sw.Run() // may come too late
		}
		sw.Close()
		sw.Close()
		if !ran {
			t.Errorf("round %d: a command that was taken did not run", i)
		}
		sw.Run() // returns
		sw.Unwatch(0)
	}
	if after := open(); after > before {
		t.Errorf("%d descriptors are open, %d were", after, before)
	}
}

func TestPollObeys(t *testing.T) {
	n := switchtest.NewNet(t)
	var order []int
	for i := range 3 {
		if !n.Post(func() { order = append(order, i) }) {
			t.Error("not taken")
		}
	}
	n.Poll()
	if !slices.Equal(order, []int{0, 1, 2}) {
		t.Errorf("order %v", order)
	}
}

// TestWatch: the gateway hears of its descriptors under their tokens.
func TestWatch(t *testing.T) {
	n := switchtest.NewNet(t)
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	token := vswitch.MakeToken(vswitch.KindGateway+3, 0xabcdef, 0xfedcba98)
	if token.Kind() != vswitch.KindGateway+3 || token.Gen() != 0xabcdef || token.Index() != 0xfedcba98 {
		t.Errorf("token %#x", uint64(token))
	}
	if got := vswitch.MakeToken(1, 0x1000001, 2).Gen(); got != 1 {
		t.Errorf("generation %#x does not wrap", got)
	}
	if err := n.Watch(fd, unix.EPOLLIN|unix.EPOLLET, token); err != nil {
		t.Fatal(err)
	}
	if err := n.Watch(fd, unix.EPOLLIN, token); err == nil {
		t.Error("watched twice")
	}
	expect := func(what string, want int) {
		t.Helper()
		n.Poll()
		if got := len(n.Gateway.Events); got != want {
			t.Fatalf("%s: %d events, want %d", what, got, want)
		}
	}
	expect("nothing written", 0)
	unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	expect("written", 1)
	if e := n.Gateway.Events[0]; e.Token != token || e.Events&unix.EPOLLIN == 0 {
		t.Errorf("%+v", e)
	}
	expect("an edge comes once", 1)
	other := vswitch.MakeToken(vswitch.KindGateway, 1, 1)
	n.Rewatch(fd, unix.EPOLLIN|unix.EPOLLET, other)
	expect("armed again", 2)
	if n.Gateway.Events[1].Token != other {
		t.Errorf("%+v", n.Gateway.Events[1])
	}
	n.Unwatch(fd)
	unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	expect("no longer watched", 2)
}

// TestRunQueue: tokens run in turn until the gateway says that they are done.
func TestRunQueue(t *testing.T) {
	n := switchtest.NewNet(t)
	left := map[uint32]int{1: 3, 2: 1, 3: 2}
	n.Gateway.Work = func(t vswitch.Token) bool {
		left[t.Index()]--
		return left[t.Index()] > 0
	}
	for i := range uint32(3) {
		n.Enqueue(vswitch.MakeToken(vswitch.KindGateway, 0, i+1))
	}
	n.Poll()
	var got []uint32
	for _, x := range n.Gateway.Ran {
		got = append(got, x.Index())
	}
	if !slices.Equal(got, []uint32{1, 2, 3, 1, 3, 1}) {
		t.Errorf("ran %v", got)
	}
	if n.Gateway.Flushed < 6 {
		t.Errorf("flushed %d times", n.Gateway.Flushed)
	}
}

// TestTimers: Expire is called when the earliest time has come, and not before.
func TestTimers(t *testing.T) {
	n := switchtest.NewNet(t)
	start := n.Clock.Now()
	expired := func(want ...int64) {
		t.Helper()
		n.Poll()
		var got []int64
		for _, x := range n.Gateway.Expired {
			got = append(got, (x-start)/int64(time.Millisecond))
		}
		if !slices.Equal(got, want) {
			t.Errorf("expired at %v ms, want %v", got, want)
		}
	}
	n.Schedule(start + int64(50*time.Millisecond))
	n.Schedule(start + int64(10*time.Millisecond))
	n.Schedule(start + int64(70*time.Millisecond))
	expired()
	n.Gateway.Next = start + int64(50*time.Millisecond)
	n.Clock.Advance(10 * time.Millisecond)
	expired(10)
	expired(10)
	n.Gateway.Next = 0
	n.Clock.Advance(45 * time.Millisecond)
	expired(10, 55)
	n.Clock.Advance(time.Hour)
	expired(10, 55)
	if n.Now() != n.Clock.Now() {
		t.Error("the loop's time is another one")
	}
}

// TestRunWakesForTimers without any frame or command.
func TestRunWakesForTimers(t *testing.T) {
	r := run(t)
	woke := make(chan int64, 1)
	at := vswitch.Monotonic() + int64(20*time.Millisecond)
	g := &waker{Gateway: new(switchtest.Gateway), woke: woke}
	r.Do(func() { r.SetGateway(g); r.Schedule(at) })
	select {
	case now := <-woke:
		if now < at {
			t.Errorf("%d ns too early", at-now)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the loop slept on")
	}
}

type waker struct {
	*switchtest.Gateway
	woke chan int64
}

func (w *waker) Expire(now int64) int64 { w.woke <- now; return 0 }

func TestMonotonic(t *testing.T) {
	a := vswitch.Monotonic()
	if b := vswitch.Monotonic(); a <= 0 || b < a {
		t.Errorf("%d, then %d", a, b)
	}
}
