package vswitch_test

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// containerVariable makes this test's binary a program in a container: it obeys
// lines on its standard input and answers each with a line, "ok" or what went
// wrong.
const containerVariable = "VSWITCH_TEST_CONTAINER"

func container() int {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var err error
		var a string
		var x, y int
		switch line := in.Text(); strings.Fields(line)[0] {
		case "serve":
			err = serve()
		case "tcp":
			fmt.Sscan(line[4:], &a, &x)
			err = sendStream(a, x)
		case "udp":
			fmt.Sscan(line[4:], &a, &x, &y)
			err = sendDatagrams(a, x, y)
		default:
			err = fmt.Errorf("what is %q?", line)
		}
		if err != nil {
			fmt.Println(err)
		} else {
			fmt.Println("ok")
		}
	}
	return 0
}

// serve hashes what TCP connections bring, and echoes datagrams.
func serve() error {
	l, err := net.Listen("tcp", ":9000")
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				h := sha256.New()
				if _, err := io.Copy(h, c); err == nil {
					c.Write(h.Sum(nil))
				}
			}()
		}
	}()
	u, err := net.ListenPacket("udp", ":9001")
	if err != nil {
		return err
	}
	go func() {
		b := make([]byte, 65536)
		for {
			n, from, err := u.ReadFrom(b)
			if err != nil {
				return
			}
			u.WriteTo(b[:n], from)
		}
	}()
	return nil
}

func sendStream(to string, size int) error {
	c, err := net.DialTimeout("tcp", net.JoinHostPort(to, "9000"), 10*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	data := pattern(size)
	if _, err := c.Write(data); err != nil {
		return err
	}
	c.(*net.TCPConn).CloseWrite()
	sum := make([]byte, sha256.Size)
	if _, err := io.ReadFull(c, sum); err != nil {
		return err
	}
	if want := sha256.Sum256(data); string(sum) != string(want[:]) {
		return fmt.Errorf("the bytes that arrived have another hash")
	}
	return nil
}

// sendDatagrams sends bytes in one call as datagrams of size (UDP_SEGMENT) and
// reads the echoes. What does not come back within a second is sent again.
func sendDatagrams(to string, bytes, size int) error {
	c, err := net.Dial("udp", net.JoinHostPort(to, "9001"))
	if err != nil {
		return err
	}
	defer c.Close()
	raw, err := c.(*net.UDPConn).SyscallConn()
	if err != nil {
		return err
	}
	raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, size) })
	if err != nil {
		return fmt.Errorf("UDP_SEGMENT: %w", err)
	}
	data := pattern(bytes)
	for i := 0; i*size < bytes; i++ {
		binary.BigEndian.PutUint32(data[i*size:], uint32(i))
	}
	b := make([]byte, 65536)
	for range 10 {
		if _, err := c.Write(data); err != nil {
			return err
		}
		back := map[int]bool{}
		c.SetReadDeadline(time.Now().Add(time.Second))
		for len(back)*size < bytes {
			n, err := c.Read(b)
			if os.IsTimeout(err) {
				break
			} else if err != nil {
				return err
			}
			i := int(binary.BigEndian.Uint32(b))
			if want := data[i*size : min(bytes, (i+1)*size)]; string(b[:n]) != string(want) {
				return fmt.Errorf("datagram %d came back as another one", i)
			}
			back[i] = true
		}
		if len(back)*size >= bytes {
			return nil
		}
	}
	return syscall.ETIMEDOUT
}
