package nat

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"tapswitch/switch"
)

// line is one direction of a long path: a packet comes out as long after it
// went in as the path is long, unless it is lost.
type line struct {
	long  time.Duration
	queue chan parcel
}

type parcel struct {
	due time.Time
	b   []byte
}

func newLine(long time.Duration) *line { return &line{long, make(chan parcel, 4096)} }

// put takes a copy of b in, or reports that the line is full.
func (l *line) put(b []byte) bool {
	select {
	case l.queue <- parcel{time.Now().Add(l.long), append([]byte(nil), b...)}:
		return true
	default:
		return false
	}
}

// run gives what comes out to f until the queue is closed.
func (l *line) run(f func(b []byte)) {
	for p := range l.queue {
		time.Sleep(time.Until(p.due))
		f(p.b)
	}
}

// slowPath is a namespace at the far end of a long and lossy path: two TUN
// devices, one of the outside and one of that namespace, and between them
// nothing but this program. The kernel's own (netem) is not in every kernel.
type slowPath struct {
	*space
	lost, passed atomic.Int64
}

const slowDevice = "slow0"

// newSlowPath makes a path that is long to pass each way and loses lose of 1000
// packets. Its far end has farAddr and farAddr6, the outside farHost and
// farHost6.
func newSlowPath(l *lab, long time.Duration, lose int) *slowPath {
	l.Helper()
	s := new(slowPath)
	near, err := openTUN(slowDevice)
	if err != nil {
		l.Fatal(err)
	}
	addAddrs(l, slowDevice, farHost+"/24", farHost6+"/64")
	var far *os.File
	s.space, err = newSpace(func() (err error) {
		if far, err = openTUN(slowDevice); err == nil {
			addAddrs(l, "lo")
			addAddrs(l, slowDevice, farAddr+"/24", farAddr6+"/64")
		}
		return err
	})
	if err != nil {
		near.Close()
		l.Fatal(err)
	}
	var end sync.WaitGroup
	carry := func(from, to *os.File, seed uint64) {
		way, rng := newLine(long), rand.New(rand.NewPCG(l.seed, seed))
		end.Go(func() {
			defer close(way.queue)
			for b := make([]byte, 65536); ; {
				n, err := from.Read(b)
				if errors.Is(err, os.ErrClosed) || err == io.EOF {
					return
				}
				if err != nil {
					l.Error(err)
					return
				}
				if rng.IntN(1000) < lose || !way.put(b[:n]) {
					s.lost.Add(1)
				} else {
					s.passed.Add(1)
				}
			}
		})
		end.Go(func() { way.run(func(b []byte) { to.Write(b) }) })
	}
	carry(near, far, 10)
	carry(far, near, 11)
	l.Cleanup(func() {
		near.Close()
		far.Close()
		end.Wait()
		s.close()
		if l.Failed() {
			l.Logf("the path lost %d packets of %d", s.lost.Load(), s.lost.Load()+s.passed.Load())
		}
	})
	return s
}

// openTUN makes a TUN device in the thread's network namespace.
func openTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil // polled, so that Close ends a Read
}

// lateDevice is a device at the end of a long cable: each frame takes a while
// to pass it, either way.
type lateDevice struct {
	vswitch.Device
	to, from *line
	bell     int // eventfd: readable when frames have arrived
	stop     int // eventfd: readable when the device is closed
	mu       sync.Mutex
	arrived  [][]byte
	end      sync.WaitGroup
}

func newLateDevice(d vswitch.Device, long time.Duration) *lateDevice {
	e := &lateDevice{Device: d, to: newLine(long), from: newLine(long)}
	e.bell, _ = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	e.stop, _ = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	e.end.Go(e.listen)
	e.end.Go(func() { e.from.run(e.arrive) })
	e.end.Go(func() { e.to.run(func(b []byte) { d.Write(b) }) })
	return e
}

// listen puts what the device gives into the cable.
func (e *lateDevice) listen() {
	defer close(e.from.queue)
	b := make([]byte, vswitch.VnetLen+vswitch.MaxFrame)
	for {
		n, errno := e.Device.Read(b)
		if errno == 0 {
			e.from.put(b[:n])
			continue
		}
		p := []unix.PollFd{{Fd: int32(e.Device.FD()), Events: unix.POLLIN}, {Fd: int32(e.stop), Events: unix.POLLIN}}
		if _, err := unix.Poll(p, -1); p[1].Revents != 0 || err != nil && err != unix.EINTR {
			return
		}
	}
}

func (e *lateDevice) arrive(b []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.arrived = append(e.arrived, b)
	ring(e.bell)
}

func ring(fd int) { unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }

func (e *lateDevice) FD() int { return e.bell }

func (e *lateDevice) Read(b []byte) (int, unix.Errno) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.arrived) == 0 {
		unix.Read(e.bell, make([]byte, 8))
		return 0, unix.EAGAIN
	}
	n := copy(b, e.arrived[0])
	e.arrived = e.arrived[1:]
	return n, 0
}

func (e *lateDevice) Write(b []byte) unix.Errno {
	e.to.put(b)
	return 0
}

// Close waits until the cable is empty.
func (e *lateDevice) Close() error {
	ring(e.stop)
	close(e.to.queue)
	e.end.Wait()
	unix.Close(e.bell)
	unix.Close(e.stop)
	return e.Device.Close()
}
