package capture

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"
)

// Block types and options of pcapng.
const (
	blockSection   = 0x0a0d0d0a
	blockInterface = 1
	blockNames     = 4
	blockStats     = 5
	blockPacket    = 6
	byteOrder      = 0x1a2b3c4d

	optComment = 1
	ifName     = 2
	ifDesc     = 3
	ifIPv4     = 4
	ifIPv6     = 5
	ifMAC      = 6
	ifTsresol  = 9
	ifFilter   = 11
	epbFlags   = 2
	isbDrop    = 5
	shbApp     = 4
)

// MaxSnap is the most of a frame that a capture holds, as libpcap's
// MAXIMUM_SNAPLEN.
const MaxSnap = 262144

// Packet is one frame with what became of it.
type Packet struct {
	Interface int
	Time      time.Time
	Received  bool // by the switch, from the container
	Length    int  // of the frame; Data may have less
	Data      []byte
	Comment   string
}

// Writer writes a pcapng file. It is not safe for concurrent use.
type Writer struct {
	w      io.Writer
	snap   int
	count  int    // interfaces
	buf    []byte // what waits to be written
	failed error
}

// writeAt is how much waits before it is written by itself.
const writeAt = 64 << 10

// NewWriter begins a file of packets with at most snap bytes each. Without a
// place to write to, what was written waits for Take.
func NewWriter(w io.Writer, app string, snap int) *Writer {
	x := &Writer{w: w, snap: snap}
	at := x.begin(blockSection)
	x.u32(byteOrder)
	x.u32(1) // version 1.0
	x.buf = binary.LittleEndian.AppendUint64(x.buf, ^uint64(0))
	x.option(shbApp, app)
	x.end(at)
	return x
}

// Take is what was written so far, in exchange for memory to write to.
func (x *Writer) Take(spare []byte) []byte {
	b := x.buf
	x.buf = spare[:0]
	return b
}

// Waiting is how many bytes wait to be written or taken.
func (x *Writer) Waiting() int { return len(x.buf) }

// Interface is where packets are captured: a container's.
type Interface struct {
	Name        string // web:eth0
	Description string
	MAC         net.HardwareAddr // or nil
	Addrs       []netip.Prefix
	Filter      string // what was asked for
}

// Interface adds an interface and returns its number. All have the same link
// type and snapshot length, without which libpcap reads no file.
func (x *Writer) Interface(i Interface) int {
	at := x.begin(blockInterface)
	x.u32(1) // LINKTYPE_ETHERNET
	x.u32(uint32(x.snap))
	x.option(ifName, i.Name)
	x.option(ifDesc, i.Description)
	for _, a := range i.Addrs {
		raw := a.Addr().AsSlice()
		if a.Addr().Is4() {
			x.option(ifIPv4, string(append(raw, net.CIDRMask(a.Bits(), 32)...)))
		} else {
			x.option(ifIPv6, string(append(raw, byte(a.Bits()))))
		}
	}
	if len(i.MAC) == 6 {
		x.option(ifMAC, string(i.MAC))
	}
	x.option(ifTsresol, "\x09") // nanoseconds
	if i.Filter != "" {
		x.option(ifFilter, "\x00"+i.Filter)
	}
	x.end(at)
	x.count++
	return x.count - 1
}

// Name adds a name of an address.
func (x *Writer) Name(a netip.Addr, name string) {
	kind, raw := uint16(1), a.Unmap().AsSlice()
	if len(raw) == 16 {
		kind = 2
	}
	name = name[:min(len(name), 255)]
	at := x.begin(blockNames)
	x.buf = binary.LittleEndian.AppendUint16(x.buf, kind)
	x.buf = binary.LittleEndian.AppendUint16(x.buf, uint16(len(raw)+len(name)+1))
	x.buf = append(append(append(x.buf, raw...), name...), 0)
	x.pad(at)
	x.u32(0) // nrb_record_end
	x.end(at)
}

// Packet adds a packet; of its data no more than the snapshot length.
func (x *Writer) Packet(p *Packet) {
	data := p.Data[:min(len(p.Data), x.snap)]
	at := x.begin(blockPacket)
	x.u32(uint32(p.Interface))
	x.time(p.Time)
	x.u32(uint32(len(data)))
	x.u32(uint32(p.Length))
	x.buf = append(x.buf, data...)
	x.pad(at)
	flags := uint32(2) // outbound: to the container
	if p.Received {
		flags = 1
	}
	x.u32(4<<16 | epbFlags)
	x.u32(flags)
	if p.Comment != "" {
		x.option(optComment, p.Comment)
	}
	x.end(at)
}

// Missed says how many packets are not in the file, for want of time to write
// them: of all interfaces, at the number of one.
func (x *Writer) Missed(iface int, missed uint64, now time.Time) {
	at := x.begin(blockStats)
	x.u32(uint32(iface))
	x.time(now)
	x.u32(8<<16 | isbDrop)
	x.buf = binary.LittleEndian.AppendUint64(x.buf, missed)
	x.option(optComment, "missed on all interfaces together, since this capture began")
	x.end(at)
}

// Flush writes out what is waiting, and says what went wrong so far.
func (x *Writer) Flush() error {
	if len(x.buf) > 0 && x.failed == nil {
		_, x.failed = x.w.Write(x.buf)
	}
	x.buf = x.buf[:0]
	return x.failed
}

// begin opens a block, and returns where it stands.
func (x *Writer) begin(kind uint32) int {
	at := len(x.buf)
	x.u32(kind)
	x.u32(0)
	return at
}

// end closes a block: the end of its options, and its length on both sides.
func (x *Writer) end(at int) {
	x.u32(0) // opt_endofopt
	n := uint32(len(x.buf) + 4 - at)
	binary.LittleEndian.PutUint32(x.buf[at+4:], n)
	x.u32(n)
	if x.w != nil && len(x.buf) >= writeAt {
		_ = x.Flush()
	}
}

func (x *Writer) u32(n uint32) { x.buf = binary.LittleEndian.AppendUint32(x.buf, n) }

func (x *Writer) time(t time.Time) {
	ns := uint64(t.UnixNano())
	x.u32(uint32(ns >> 32))
	x.u32(uint32(ns))
}

func (x *Writer) option(code uint16, value string) {
	value = value[:min(len(value), 65000)]
	at := len(x.buf)
	x.u32(uint32(len(value))<<16 | uint32(code))
	x.buf = append(x.buf, value...)
	x.pad(at)
}

// pad fills up to a multiple of four bytes from at on.
func (x *Writer) pad(at int) {
	for (len(x.buf)-at)%4 != 0 {
		x.buf = append(x.buf, 0)
	}
}

// Blocks takes a file apart into its blocks.
type Blocks struct {
	r   *bufio.Reader
	buf []byte
}

// NewBlocks begins to read.
func NewBlocks(r io.Reader) *Blocks { return &Blocks{r: bufio.NewReaderSize(r, 64<<10)} }

var errFormat = errors.New("not a capture of ours")

// Next is the next block as it stands in the file, valid until the call after.
// The error at the end is io.EOF.
func (x *Blocks) Next() (kind uint32, raw []byte, err error) {
	var head [8]byte
	if _, err := io.ReadFull(x.r, head[:]); err != nil {
		return 0, nil, err
	}
	n := int(binary.LittleEndian.Uint32(head[4:]))
	if n < 12 || n > 1<<20 || n%4 != 0 {
		return 0, nil, errFormat
	}
	if cap(x.buf) < n {
		x.buf = make([]byte, n)
	}
	raw = x.buf[:n]
	copy(raw, head[:])
	if _, err := io.ReadFull(x.r, raw[8:]); err != nil {
		return 0, nil, fmt.Errorf("a block is cut: %w", err)
	}
	return binary.LittleEndian.Uint32(raw), raw, nil
}

// Reader reads what a Writer has written.
type Reader struct {
	blocks     *Blocks
	Interfaces []string
	Names      map[netip.Addr]string
	Missed     uint64
}

// NewReader begins to read.
func NewReader(r io.Reader) *Reader {
	return &Reader{blocks: NewBlocks(r), Names: make(map[netip.Addr]string)}
}

// Next is the next packet; its data and comment are valid until the call after.
// The error at the end is io.EOF.
func (x *Reader) Next() (*Packet, error) {
	for {
		kind, raw, err := x.blocks.Next()
		if err != nil {
			return nil, err
		}
		if p, err := x.Block(kind, raw); p != nil || err != nil {
			return p, err
		}
	}
}

// Skip takes in the next block, whatever it is.
func (x *Reader) Skip() error {
	kind, raw, err := x.blocks.Next()
	if err == nil {
		_, err = x.Block(kind, raw)
	}
	return err
}

// Block takes a block in, and returns the packet that it holds, if it does.
func (x *Reader) Block(kind uint32, raw []byte) (*Packet, error) {
	b := raw[8 : len(raw)-4]
	switch kind {
	case blockInterface:
		if len(b) < 8 {
			return nil, errFormat
		}
		x.Interfaces = append(x.Interfaces, string(find(b[8:], ifName)))
	case blockNames:
		x.name(b)
	case blockStats:
		if v := find(b[min(12, len(b)):], isbDrop); len(v) == 8 {
			x.Missed = binary.LittleEndian.Uint64(v)
		}
	case blockPacket:
		return x.packet(b)
	}
	return nil, nil
}

// name takes the first record of a block of names in.
func (x *Reader) name(b []byte) {
	if len(b) < 4 {
		return
	}
	kind, n := binary.LittleEndian.Uint16(b), int(binary.LittleEndian.Uint16(b[2:]))
	size := 4 // of the address
	if kind == 2 {
		size = 16
	}
	if kind != 1 && kind != 2 || 4+n > len(b) || n < size+1 || len(x.Names) > 1<<16 {
		return
	}
	a, _ := netip.AddrFromSlice(b[4 : 4+size])
	name, _, _ := bytes.Cut(b[4+size:4+n], []byte{0})
	x.Names[a] = string(name)
}

func (x *Reader) packet(b []byte) (*Packet, error) {
	if len(b) < 20 {
		return nil, errFormat
	}
	size := int(binary.LittleEndian.Uint32(b[12:]))
	end := 20 + (size+3)&^3
	p := &Packet{Interface: int(binary.LittleEndian.Uint32(b)), Length: int(binary.LittleEndian.Uint32(b[16:]))}
	if size < 0 || end > len(b) || p.Interface >= len(x.Interfaces) {
		return nil, errFormat
	}
	p.Time = time.Unix(0, int64(uint64(binary.LittleEndian.Uint32(b[4:]))<<32|uint64(binary.LittleEndian.Uint32(b[8:]))))
	p.Data = b[20 : 20+size]
	p.Comment = string(find(b[end:], optComment))
	f := find(b[end:], epbFlags)
	p.Received = len(f) == 4 && f[0]&3 == 1
	return p, nil
}

// find is the value of an option.
func find(b []byte, code uint16) []byte {
	for len(b) >= 4 {
		c, n := binary.LittleEndian.Uint16(b), int(binary.LittleEndian.Uint16(b[2:]))
		if c == 0 || 4+n > len(b) {
			return nil
		}
		if c == code {
			return b[4 : 4+n]
		}
		b = b[min(4+(n+3)&^3, len(b)):]
	}
	return nil
}

// IsHead says whether a block is one that all packets behind it need.
func IsHead(kind uint32) bool {
	return kind == blockSection || kind == blockInterface || kind == blockNames
}

// Buffered is how much has been read ahead.
func (x *Blocks) Buffered() int { return x.r.Buffered() }

// IsPacket says whether a block holds a packet.
func IsPacket(kind uint32) bool { return kind == blockPacket }
