package forward

import (
	"bufio"
	"bytes"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	resolvMaxSize  = 64 << 10 // bytes read of the file
	resolvInterval = time.Second
)

// Resolv follows the host's resolver configuration, resolv.conf(5). The file
// may be missing, replaced or rewritten at any time, as when a network or a
// VPN comes and goes; while there is none, or none that can be read, the lists
// are empty. All methods may be called from several goroutines; they may wait
// for the disk.
type Resolv struct {
	// Open opens the file; nil: os.Open. It is set before the first question.
	Open func(path string) (*os.File, error)

	path string
	now  func() time.Time

	mu      sync.Mutex
	checked time.Time
	state   resolvState
	conf    resolvConf
}

// resolvState tells one content of the file from the next; zero: no file.
type resolvState struct {
	mtime time.Time
	size  int64
	inode uint64
}

type resolvConf struct {
	upstreams []netip.AddrPort
	search    []string
}

// NewResolv follows the file at path, normally /etc/resolv.conf. It is looked
// at when it is asked for, at most once a second by the clock now (nil:
// time.Now).
func NewResolv(path string, now func() time.Time) *Resolv {
	if now == nil {
		now = time.Now
	}
	return &Resolv{path: path, now: now}
}

// Upstreams returns the name servers in the file's order, with port 53. A
// link-local address has its zone. The caller owns the slice.
func (r *Resolv) Upstreams() []netip.AddrPort {
	return slices.Clone(r.current().upstreams)
}

// Search returns the search domains, without a trailing dot. The caller owns
// the slice.
func (r *Resolv) Search() []string {
	return slices.Clone(r.current().search)
}

func (r *Resolv) current() resolvConf {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if since := now.Sub(r.checked); !r.checked.IsZero() && since >= 0 && since < resolvInterval {
		return r.conf
	}
	r.checked = now
	r.refresh()
	return r.conf
}

// refresh reads the file if it is another than the one read last.
func (r *Resolv) refresh() {
	// Looked at before it is opened: opening a FIFO would wait for a writer.
	info, err := os.Stat(r.path)
	if err != nil || !info.Mode().IsRegular() {
		r.state, r.conf = resolvState{}, resolvConf{}
		return
	}
	if resolvStateOf(info) == r.state {
		return
	}
	open := r.Open
	if open == nil {
		open = os.Open
	}
	f, err := open(r.path)
	if err != nil {
		r.state, r.conf = resolvState{}, resolvConf{}
		return
	}
	defer f.Close()
	// The state is the opened file's, taken before its content: what changes
	// from here on is seen next time.
	info, err = f.Stat()
	if err != nil {
		return
	}
	data, err := io.ReadAll(io.LimitReader(f, resolvMaxSize))
	if err != nil {
		return
	}
	r.state, r.conf = resolvStateOf(info), parseResolv(data)
}

func resolvStateOf(info os.FileInfo) resolvState {
	s := resolvState{mtime: info.ModTime(), size: info.Size()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.inode = st.Ino
	}
	return s
}

// parseResolv reads what glibc does: the last of search and domain wins, and
// what it does not understand is skipped.
func parseResolv(data []byte) (c resolvConf) {
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, resolvMaxSize+1)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(f[1]); err == nil {
				// A zone means something to link-local addresses only.
				if !a.IsLinkLocalUnicast() {
					a = a.WithZone("")
				}
				c.upstreams = append(c.upstreams, netip.AddrPortFrom(a.Unmap(), 53))
			}
		case "domain":
			c.search = searchList(f[1:2])
		case "search":
			c.search = searchList(f[1:])
		}
	}
	return c
}

// searchList leaves out the root, which adds nothing to a name.
func searchList(fields []string) (list []string) {
	for _, s := range fields {
		if s[0] == '#' || s[0] == ';' {
			break
		}
		if s = strings.TrimSuffix(s, "."); s != "" {
			list = append(list, s)
		}
	}
	return list
}
