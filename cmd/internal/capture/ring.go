package capture

import (
	"encoding/binary"
	"time"
)

// Ring holds the packets that came last, in memory of a fixed size. It is not
// safe for concurrent use.
type Ring struct {
	b          []byte
	head, tail uint64 // bytes written and let go since the start
}

// Kept is a packet in a ring.
type Kept struct {
	Packet
	From, To uint32 // interfaces, as its owner counts them
	Dropped  bool
}

// A record is its length, the time, the frame's length, From, To, flags, the
// lengths of data and comment, and these.
const keptHead = 4 + 8 + 4 + 4 + 4 + 2 + 2 + 2

// Flags of a record.
const (
	keptReceived = 1 << iota
	keptDropped
)

// NewRing makes a ring of size bytes.
func NewRing(size int) *Ring { return &Ring{b: make([]byte, size)} }

// Put keeps a packet, and lets go of what came first for it.
func (r *Ring) Put(k *Kept) {
	comment := k.Comment[:min(len(k.Comment), 1000)]
	n := uint64(keptHead + len(k.Data) + len(comment))
	size := uint64(len(r.b))
	if n+4 > size || len(k.Data) > 1<<16-1 {
		return
	}
	if room := size - r.head%size; room < n { // a record lies in one piece
		r.makeRoom(room)
		if room >= 4 {
			binary.LittleEndian.PutUint32(r.b[r.head%size:], 0)
		}
		r.head += room
	}
	r.makeRoom(n)
	b := r.b[r.head%size:][:0]
	b = binary.LittleEndian.AppendUint32(b, uint32(n))
	b = binary.LittleEndian.AppendUint64(b, uint64(k.Time.UnixNano()))
	b = binary.LittleEndian.AppendUint32(b, uint32(k.Length))
	b = binary.LittleEndian.AppendUint32(b, k.From)
	b = binary.LittleEndian.AppendUint32(b, k.To)
	flags := uint16(0)
	if k.Received {
		flags |= keptReceived
	}
	if k.Dropped {
		flags |= keptDropped
	}
	b = binary.LittleEndian.AppendUint16(b, flags)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(k.Data)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(comment)))
	_ = append(append(b, k.Data...), comment...)
	r.head += n
}

// makeRoom lets records go until n bytes are free behind head.
func (r *Ring) makeRoom(n uint64) {
	for r.head+n-r.tail > uint64(len(r.b)) {
		r.tail += r.length(r.tail)
	}
}

// length is that of the record at a place, or of the gap at the end.
func (r *Ring) length(at uint64) uint64 {
	size := uint64(len(r.b))
	room := size - at%size
	if room < 4 {
		return room
	}
	if n := binary.LittleEndian.Uint32(r.b[at%size:]); n != 0 {
		return uint64(n)
	}
	return room
}

// Each calls f for all packets, those first that came first; data is borrowed
// until it returns.
func (r *Ring) Each(f func(k *Kept)) {
	size := uint64(len(r.b))
	for at := r.tail; at < r.head; {
		n := r.length(at)
		b := r.b[at%size:][:n]
		at += n
		if n < keptHead || binary.LittleEndian.Uint32(b) == 0 {
			continue // a gap
		}
		data, comment := int(binary.LittleEndian.Uint16(b[26:])), int(binary.LittleEndian.Uint16(b[28:]))
		flags := binary.LittleEndian.Uint16(b[24:])
		k := Kept{From: binary.LittleEndian.Uint32(b[16:]), To: binary.LittleEndian.Uint32(b[20:]), Dropped: flags&keptDropped != 0}
		k.Time = time.Unix(0, int64(binary.LittleEndian.Uint64(b[4:])))
		k.Length, k.Received = int(binary.LittleEndian.Uint32(b[12:])), flags&keptReceived != 0
		k.Data, k.Comment = b[keptHead:keptHead+data], string(b[keptHead+data:keptHead+data+comment])
		f(&k)
	}
}
