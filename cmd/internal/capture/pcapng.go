package capture

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
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
	ifTsresol  = 9
	epbFlags   = 2
	isbDrop    = 5
	shbApp     = 4
)

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
	w      *bufio.Writer
	snap   int
	count  int // interfaces
	buf    []byte
	failed error
}

// NewWriter begins a file of packets with at most snap bytes each.
func NewWriter(w io.Writer, app string, snap int) *Writer {
	x := &Writer{w: bufio.NewWriterSize(w, 64<<10), snap: snap}
	b := binary.LittleEndian.AppendUint32(nil, byteOrder)
	b = binary.LittleEndian.AppendUint16(b, 1)
	b = binary.LittleEndian.AppendUint16(b, 0)
	b = binary.LittleEndian.AppendUint64(b, ^uint64(0))
	x.block(blockSection, option(b, shbApp, []byte(app)))
	return x
}

// Interface adds an interface and returns its number.
func (x *Writer) Interface(name, description string) int {
	b := binary.LittleEndian.AppendUint16(nil, 1) // LINKTYPE_ETHERNET
	b = binary.LittleEndian.AppendUint16(b, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(x.snap))
	b = option(option(option(b, ifName, []byte(name)), ifDesc, []byte(description)), ifTsresol, []byte{9})
	x.block(blockInterface, b)
	x.count++
	return x.count - 1
}

// Name adds a name of an address.
func (x *Writer) Name(a netip.Addr, name string) {
	kind, raw := uint16(1), a.AsSlice()
	if a.Is6() {
		kind = 2
	}
	value := append(append([]byte{}, raw...), name...)
	value = append(value, 0)
	b := binary.LittleEndian.AppendUint16(nil, kind)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
	b = pad(append(b, value...))
	x.block(blockNames, append(b, 0, 0, 0, 0))
}

// Packet adds a packet.
func (x *Writer) Packet(p *Packet) {
	ns := uint64(p.Time.UnixNano())
	b := x.buf[:0]
	b = binary.LittleEndian.AppendUint32(b, uint32(p.Interface))
	b = binary.LittleEndian.AppendUint32(b, uint32(ns>>32))
	b = binary.LittleEndian.AppendUint32(b, uint32(ns))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(p.Data)))
	b = binary.LittleEndian.AppendUint32(b, uint32(p.Length))
	b = pad(append(b, p.Data...))
	flags := uint32(2) // outbound: to the container
	if p.Received {
		flags = 1
	}
	b = option(b, epbFlags, binary.LittleEndian.AppendUint32(nil, flags))
	if p.Comment != "" {
		b = option(b, optComment, []byte(p.Comment))
	}
	x.buf = b
	x.block(blockPacket, b)
}

// Missed says how many packets of an interface are not in the file.
func (x *Writer) Missed(iface int, missed uint64, now time.Time) {
	ns := uint64(now.UnixNano())
	b := binary.LittleEndian.AppendUint32(nil, uint32(iface))
	b = binary.LittleEndian.AppendUint32(b, uint32(ns>>32))
	b = binary.LittleEndian.AppendUint32(b, uint32(ns))
	x.block(blockStats, option(b, isbDrop, binary.LittleEndian.AppendUint64(nil, missed)))
}

// Flush writes out what is waiting, and says what went wrong so far.
func (x *Writer) Flush() error {
	if err := x.w.Flush(); x.failed == nil {
		x.failed = err
	}
	return x.failed
}

// block writes one block; its last option, if it has any, is closed here.
func (x *Writer) block(kind uint32, body []byte) {
	if kind != blockNames {
		body = append(body, 0, 0, 0, 0) // opt_endofopt
	}
	n := uint32(len(body) + 12)
	var head [8]byte
	binary.LittleEndian.PutUint32(head[:], kind)
	binary.LittleEndian.PutUint32(head[4:], n)
	for _, part := range [][]byte{head[:], body, head[4:]} {
		if _, err := x.w.Write(part); err != nil && x.failed == nil {
			x.failed = err
		}
	}
}

func option(b []byte, code uint16, value []byte) []byte {
	value = value[:min(len(value), 65000)]
	b = binary.LittleEndian.AppendUint16(b, code)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
	return pad(append(b, value...))
}

func pad(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// Reader reads what a Writer has written.
type Reader struct {
	r          *bufio.Reader
	read       int // bytes of whole blocks
	Interfaces []string
	Missed     uint64
	buf        []byte
}

// NewReader begins to read.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReaderSize(r, 64<<10)} }

var errFormat = errors.New("not a capture of ours")

// Next is the next packet; its data and comment are valid until the call after.
// The error at the end is io.EOF.
func (x *Reader) Next() (*Packet, error) {
	for {
		var head [8]byte
		if _, err := io.ReadFull(x.r, head[:]); err != nil {
			return nil, err
		}
		kind, n := binary.LittleEndian.Uint32(head[:]), int(binary.LittleEndian.Uint32(head[4:]))
		if n < 12 || n > 1<<20 {
			return nil, errFormat
		}
		if cap(x.buf) < n {
			x.buf = make([]byte, n)
		}
		b := x.buf[:n-8]
		if _, err := io.ReadFull(x.r, b); err != nil {
			return nil, fmt.Errorf("a block is cut: %w", err)
		}
		b = b[:n-12]
		x.read += n
		switch kind {
		case blockInterface:
			if len(b) < 8 {
				return nil, errFormat
			}
			x.Interfaces = append(x.Interfaces, string(find(b[8:], ifName)))
		case blockStats:
			if v := find(b[min(12, len(b)):], isbDrop); len(v) == 8 {
				x.Missed = binary.LittleEndian.Uint64(v)
			}
		case blockPacket:
			return x.packet(b)
		}
	}
}

// Cut is what was read so far, of a text that holds all that came: no block is
// cut.
func (x *Reader) Cut(all string) string { return all[:min(x.read, len(all))] }

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
