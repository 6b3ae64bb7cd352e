package nat

import (
	"tapswitch/switch"
)

// spillPool holds what a socket did not take: at most one super-frame's worth
// per connection, in blocks of off-heap memory that are reused. The window
// offered to the container counts on it, which also lets the socket run full
// now and then: only then does the kernel grow its send buffer. Segments that
// came early wait in blocks, too.
type spillPool struct {
	blocks [][]byte
	free   []uint32
	lens   []int
	seqs   []uint32 // of early segments: the first byte's sequence number
	next   []uint32 // and the next block of the connection
	early  int      // blocks with early segments
}

const (
	spillSize = 65536
	maxSpills = 1024
)

// get takes a block and fills it with b, or reports none.
func (s *spillPool) get(b []byte) uint32 {
	if len(b) > spillSize {
		return none
	}
	if len(s.free) == 0 {
		if len(s.blocks) >= maxSpills {
			return none
		}
		m, err := vswitch.OffHeap(spillSize)
		if err != nil {
			return none
		}
		s.blocks = append(s.blocks, m)
		s.lens, s.seqs, s.next = append(s.lens, 0), append(s.seqs, 0), append(s.next, none)
		s.free = append(s.free, uint32(len(s.blocks)-1))
	}
	i := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	s.lens[i] = copy(s.blocks[i], b)
	return i
}

// more adds b to block i, or reports that it does not fit.
func (s *spillPool) more(i uint32, b []byte) bool {
	if s.lens[i]+len(b) > spillSize {
		return false
	}
	s.lens[i] += copy(s.blocks[i][s.lens[i]:spillSize], b)
	return true
}

// set makes b the content of block i, or reports that it does not fit.
func (s *spillPool) set(i uint32, b []byte) bool {
	if len(b) > spillSize {
		return false
	}
	s.lens[i] = copy(s.blocks[i], b)
	return true
}

func (s *spillPool) bytes(i uint32) []byte { return s.blocks[i][:s.lens[i]] }

// end is the sequence number behind a block of early segments.
func (s *spillPool) end(i uint32) uint32 { return s.seqs[i] + uint32(s.lens[i]) }

func (s *spillPool) put(i uint32) { s.free = append(s.free, i) }
