package switchtest

import (
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
	"tapswitch/switch"
)

// SeedVariable names the environment variable that repeats a test's faults.
const SeedVariable = "SWITCHTEST_SEED"

// Seed is the seed of a test's randomness, from SeedVariable or new, and is
// logged: a failed test says how to repeat it.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed, err := strconv.ParseUint(os.Getenv(SeedVariable), 10, 64)
	if err != nil {
		seed = rand.Uint64()
	}
	t.Logf("%s=%d", SeedVariable, seed)
	return seed
}

// Rand is a generator with Seed.
func Rand(t testing.TB) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(Seed(t), 0))
}

// Rates are the probabilities of each fault, 0 to 1, for one direction.
type Rates struct {
	Drop, Duplicate, Reorder, Corrupt float64
}

// FaultCount says how many frames met which fault.
type FaultCount struct {
	Passed, Dropped, Duplicated, Reordered, Corrupted int
}

// Fault is a device with faults in front of another. A reordered frame goes
// behind the next one of its direction; when Read finds no next one, the frame
// it holds comes after all. A corrupted frame has one bit flipped behind its
// virtio header.
type Fault struct {
	vswitch.Device
	mu     sync.Mutex
	rnd    *rand.Rand
	rates  [2]Rates
	count  [2]FaultCount
	queue  [2][][]byte // due before anything new
	held   [2][]byte   // goes behind the next frame
	buffer []byte
}

// The directions of a Fault.
const (
	FromDevice = iota // what the switch reads
	ToDevice          // what the switch writes
)

// NewFault puts faults in front of d: from are those of frames that the switch
// reads, to those of frames that it writes. The seed is logged.
func NewFault(t testing.TB, d vswitch.Device, from, to Rates) *Fault {
	t.Helper()
	return &Fault{Device: d, rnd: Rand(t), rates: [2]Rates{from, to}, buffer: make([]byte, vswitch.VnetLen+vswitch.MaxFrame)}
}

// Count tells what happened so far in a direction.
func (f *Fault) Count(direction int) FaultCount {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count[direction]
}

// Heal ends all faults; what is held back goes with the next frame.
func (f *Fault) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rates = [2]Rates{}
}

// Read takes the next frame that the faults leave.
func (f *Fault) Read(b []byte) (int, unix.Errno) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.queue[FromDevice]) == 0 {
		n, e := f.Device.Read(f.buffer)
		if e != 0 {
			if f.held[FromDevice] == nil {
				return 0, e
			}
			f.release(FromDevice)
			break
		}
		f.strike(FromDevice, f.buffer[:n])
	}
	next := f.queue[FromDevice][0]
	f.queue[FromDevice] = f.queue[FromDevice][1:]
	return copy(b, next), 0
}

// Write sends what the faults make of b. It reports the error of the last frame
// that reached the device; a dropped frame is none.
func (f *Fault) Write(b []byte) (e unix.Errno) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.strike(ToDevice, b)
	for _, frame := range f.queue[ToDevice] {
		e = f.Device.Write(frame)
	}
	f.queue[ToDevice] = f.queue[ToDevice][:0]
	return e
}

// strike queues what becomes of the frame b.
func (f *Fault) strike(dir int, b []byte) {
	r, c := f.rates[dir], &f.count[dir]
	if f.rnd.Float64() < r.Drop {
		c.Dropped++
		return
	}
	frame := append([]byte(nil), b...)
	if len(frame) > vswitch.VnetLen && f.rnd.Float64() < r.Corrupt {
		c.Corrupted++
		frame[vswitch.VnetLen+f.rnd.IntN(len(frame)-vswitch.VnetLen)] ^= 1 << f.rnd.IntN(8)
	}
	if f.held[dir] == nil && f.rnd.Float64() < r.Reorder {
		c.Reordered++
		f.held[dir] = frame
		return
	}
	c.Passed++
	f.queue[dir] = append(f.queue[dir], frame)
	if f.rnd.Float64() < r.Duplicate {
		c.Duplicated++
		f.queue[dir] = append(f.queue[dir], frame)
	}
	f.release(dir)
}

func (f *Fault) release(dir int) {
	if f.held[dir] != nil {
		f.queue[dir] = append(f.queue[dir], f.held[dir])
		f.held[dir] = nil
	}
}
