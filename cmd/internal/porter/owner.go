package porter

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"tapswitch/cmd/internal/api"
)

// Owner is a process with a socket in a container.
type Owner struct {
	Proto uint8  `json:"proto"`
	Port  uint16 `json:"port"` // of echoes their identifier
	Pid   int    `json:"pid"`  // as the host counts
	Name  string `json:"name"`
}

// maxOwners bounds an answer.
const maxOwners = 2048

// onOwners tells which process of a container has which port. What belongs to
// others and cannot be looked into is left out.
func (p *porter) onOwners(m Message, r *Message) {
	var netns string
	switch c := p.find(m.Name); {
	case c != nil && c.hold != nil:
		netns, _ = os.Readlink("/proc/self/fd/" + strconv.Itoa(int(c.hold["net"].Fd())))
	case c != nil:
		netns, _ = os.Readlink(nspath(c.pid(), "net"))
	case m.Pid > 0:
		netns, _ = os.Readlink(nspath(m.Pid, "net"))
	}
	own, _ := os.Readlink("/proc/self/ns/net")
	if netns == "" || netns == own {
		r.Err = api.Errorf(api.NotFound, "no network namespace of %s", m.Name)
		return
	}
	list := ownersIn(netns)
	r.Extra, _ = json.Marshal(list[:min(len(list), maxOwners)])
}

// ownersIn looks for the sockets of a network namespace, as /proc names it, and
// for the processes that hold them.
func ownersIn(netns string) (list []Owner) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	var inside []string
	for _, d := range dirs {
		if ns, err := os.Readlink(d + "/ns/net"); err == nil && ns == netns {
			inside = append(inside, d)
		}
	}
	if len(inside) == 0 {
		return nil
	}
	sockets := make(map[string]Owner) // by inode
	for file, proto := range map[string]uint8{"tcp": 6, "tcp6": 6, "udp": 17, "udp6": 17, "icmp": 1, "icmp6": 1} {
		socketsOf(inside[0]+"/net/"+file, proto, sockets)
	}
	for _, d := range inside {
		pid, _ := strconv.Atoi(filepath.Base(d))
		comm, _ := os.ReadFile(d + "/comm")
		fds, err := os.ReadDir(d + "/fd")
		if err != nil {
			continue
		}
		for _, fd := range fds {
			link, _ := os.Readlink(d + "/fd/" + fd.Name())
			inode, is := strings.CutPrefix(link, "socket:[")
			if o, known := sockets[strings.TrimSuffix(inode, "]")]; is && known {
				o.Pid, o.Name = pid, strings.TrimSpace(string(comm))
				list = append(list, o)
			}
		}
	}
	return list
}

// socketsOf reads a file as /proc/net/tcp: the local address is the second
// column, the inode the tenth.
func socketsOf(path string, proto uint8, sockets map[string]Owner) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		col := strings.Fields(s.Text())
		if len(col) < 10 || len(sockets) > 1<<16 {
			continue
		}
		_, hex, _ := strings.Cut(col[1], ":")
		if port, err := strconv.ParseUint(hex, 16, 16); err == nil {
			sockets[col[9]] = Owner{Proto: proto, Port: uint16(port)}
		}
	}
}
