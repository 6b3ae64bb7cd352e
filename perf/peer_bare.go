package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bareLoop is no switch: one thread that reads a frame from one TAP and writes it
// to the other, with the offloads that we use and nothing else, not even a look
// at the frame. What it does not reach, a program that carries frames between
// two TAPs by these system calls does not reach on this machine with one write for
// each frame; or, if it merges, with one for up to four of TCP that follow each other.
type bareLoop struct{ merges bool }

func (b bareLoop) name() string {
	if b.merges {
		return "bare-loop-merging"
	}
	return "bare-loop"
}

func (b bareLoop) about() string {
	what := "a loop of read and write between the TAPs of two containers, MTU 1500, offloads on: the system calls alone"
	if b.merges {
		what += ", with one write for up to four TCP super-frames that follow each other"
	}
	return what
}
func (bareLoop) missing() string   { return "" }
func (bareLoop) version() string   { return runtime.Version() }
func (bareLoop) paths() []pathName { return []pathName{pathContainer} }

func (b bareLoop) start(ctx context.Context, l *lab) (*topology, error) {
	var containers [2]place
	var taps []*os.File
	defer func() {
		for _, t := range taps {
			t.Close()
		}
	}()
	for i := range containers {
		n, _, err := l.container(fmt.Sprintf("container%d", i+1))
		if err != nil {
			return nil, err
		}
		containers[i] = place{ns: n}
		t, err := n.openTAP("eth0")
		if err != nil {
			return nil, err
		}
		taps = append(taps, t)
		if err := errors.Join(n.queueLength("eth0", bareQueue), n.address("eth0", fmt.Sprintf("10.88.0.%d/24", i+2)), n.setUp("eth0")); err != nil {
			return nil, err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c, err := place{ns: l.host}.start(ctx, []string{self, b.name()}, taps...)
	if err != nil {
		return nil, err
	}
	if err := c.awaitLine("ready"); err != nil {
		c.stop()
		return nil, err
	}
	return &topology{
		paths: map[pathName]path{pathContainer: {client: containers[0], server: containers[1], address: "10.88.0.3"}},
		stop:  c.stop, died: c.died, roots: children{c}.pids(),
	}, nil
}

// bareQueue is as many frames as a TAP of tapswitch's keeps.
const bareQueue = 500

// openTAP makes a TAP in the namespace and returns a descriptor of it.
func (n *namespace) openTAP(ifname string) (f *os.File, err error) {
	err = n.do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		ifr, err := unix.NewIfreq(ifname)
		if err == nil {
			ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
		}
		if err != nil {
			unix.Close(fd)
			return err
		}
		f = os.NewFile(uintptr(fd), ifname)
		return nil
	})
	return f, n.explain("make the TAP "+ifname, err)
}

// queueLength sets how many frames wait in front of an interface at most.
func (n *namespace) queueLength(ifname string, frames int) error {
	link, err := n.links.LinkByName(ifname)
	if err == nil {
		err = n.links.LinkSetTxQLen(link, frames)
	}
	return n.explain("queue of "+ifname, err)
}

// The offloads that we ask for (include/uapi/linux/if_tun.h): checksums, TCP of
// both families and with ECN, UDP of both; and the longest frame that comes of them.
const (
	bareOffloads = 0x01 | 0x02 | 0x04 | 0x08 | 0x20 | 0x40
	bareFrame    = 10 + 65536 + 256
)

// runBareLoop is the loop, with the TAPs at descriptors 3 and 4. It ends with its
// standard input.
func runBareLoop(merges bool) error {
	runtime.LockOSThread()
	poll := []unix.PollFd{{Fd: 0, Events: unix.POLLIN | unix.POLLRDHUP}, {Fd: 3, Events: unix.POLLIN}, {Fd: 4, Events: unix.POLLIN}}
	for _, p := range poll[1:] {
		if err := errors.Join(unix.SetNonblock(int(p.Fd), true), unix.IoctlSetInt(int(p.Fd), unix.TUNSETOFFLOAD, bareOffloads)); err != nil {
			return fmt.Errorf("TAP: %w", err)
		}
	}
	buf, err := unix.Mmap(-1, 0, bareRoom, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	at := uintptr(unsafe.Pointer(&buf[0]))
	fmt.Println("ready")
	for quiet := 0; ; quiet++ {
		if quiet > bareSpin {
			if _, err := unix.Poll(poll, -1); err != nil && err != unix.EINTR {
				return err
			}
			if poll[0].Revents != 0 {
				return nil
			}
		}
		for from := uintptr(3); from <= 4; from++ {
			if merges {
				if bareMerge(from, 7-from, buf) {
					quiet = 0
				}
				continue
			}
			for range bareTurn {
				n, _, e := unix.RawSyscall(unix.SYS_READ, from, at, bareFrame)
				if e != 0 {
					break
				}
				unix.RawSyscall(unix.SYS_WRITE, 7-from, at, n)
				quiet = 0
			}
		}
	}
}

const (
	bareTurn = 64  // frames from one TAP before the other has its turn
	bareSpin = 200 // rounds without a frame before it sleeps
)
