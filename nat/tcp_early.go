package nat

// Segments that come before their turn. A frame of the container is lost where
// its interface's queue runs over: easily without offload, when several
// connections send at once. What follows it is kept in blocks of the spill pool
// and reported to the container (SACK, RFC 2018), which then repeats what is
// missing and nothing else. Without that its timer would have to notice each
// loss, doubling each time: with neither SACK nor timestamps its kernel has no
// measure of the round trip while it repeats (RFC 6298, 3).
//
// What is kept is not acknowledged: under pressure it may be forgotten.

const (
	maxEarly    = 32            // blocks of one connection
	allEarly    = maxSpills / 2 // and of all, the rest is for spills
	maxSackSize = 4 + 4*8
)

// tcpKeep keeps data from seq on, or what is not known of it. It reports false
// if there is no room, or if the data lies beyond the window.
func (n *NAT) tcpKeep(fl *flow, seq uint32, data []byte) bool {
	t, s := &fl.tcp, &n.spills
	if len(data) == 0 || seqLess(t.edge, seq+uint32(len(data))) {
		return false
	}
	before, after := none, t.early
	for after != none && !seqLess(seq, s.seqs[after]) {
		before, after = after, s.next[after]
	}
	if before != none {
		if known := s.end(before) - seq; int32(known) > 0 {
			data = data[min(int(known), len(data)):]
			seq += known
		}
	}
	if after != none && seqLess(s.seqs[after], seq+uint32(len(data))) {
		data = data[:max(int32(s.seqs[after]-seq), 0)]
	}
	if len(data) == 0 {
		return true
	}
	t.recent = seq
	if before != none && s.end(before) == seq && s.more(before, data) {
		return true
	}
	if t.earlies >= maxEarly || s.early >= allEarly {
		return false
	}
	k := s.get(data)
	if k == none {
		return false
	}
	t.earlies++
	s.early++
	s.seqs[k], s.next[k] = seq, after
	if before != none {
		s.next[before] = k
	} else {
		t.early = k
	}
	return true
}

// tcpTurn gives the socket what was kept and is next now. It returns false if
// the connection ended.
func (n *NAT) tcpTurn(i uint32) bool {
	fl := &n.flows[i]
	t, s := &fl.tcp, &n.spills
	for t.early != none && t.spill == none && !seqLess(t.rcvNxt, s.seqs[t.early]) {
		b := s.bytes(t.early)
		if known := t.rcvNxt - s.seqs[t.early]; int(known) < len(b) {
			if !n.tcpToSocket(i, b[known:]) {
				return fl.kind == kindTCP
			}
		}
		n.tcpForget(t)
	}
	return true
}

// tcpForget frees the first block of what was kept.
func (n *NAT) tcpForget(t *tcpState) {
	k := t.early
	t.early = n.spills.next[k]
	t.earlies--
	n.spills.early--
	n.spills.put(k)
}

// tcpSack writes the option that says what was kept: the range with the latest
// segment first, then others from the oldest on (RFC 2018, 4). It returns the
// option, whose length is a multiple of 4.
func (n *NAT) tcpSack(fl *flow) []byte {
	t, s, opt := &fl.tcp, &n.spills, n.sackOpt[:]
	if !fl.has(fSack) || t.early == none || t.spill != none {
		return nil // between a spill and what follows nothing is missing
	}
	size := 4 + 8 // the first range's place is kept free
	put := func(at int, from, to uint32) {
		put32(opt[at:], from)
		put32(opt[at+4:], to)
	}
	for k := t.early; k != none; {
		from, to := s.seqs[k], s.end(k)
		for k = s.next[k]; k != none && s.seqs[k] == to; k = s.next[k] {
			to = s.end(k)
		}
		switch {
		case !seqLess(t.recent, from) && seqLess(t.recent, to):
			put(4, from, to)
		case size < maxSackSize:
			put(size, from, to)
			size += 8
		}
	}
	opt[0], opt[1], opt[2], opt[3] = 1, 1, 5, byte(size-2) // padded in front
	return opt[:size]
}
