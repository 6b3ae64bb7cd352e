package main

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
)

func init() {
	programs["group"], programs["watch"], programs["shout"] = progGroup, progWatch, progShout
}

// progGroup GROUP PORT is in a multicast group and prints what it hears there.
func progGroup(args []string) int {
	eth, err := net.InterfaceByName("eth0")
	if err != nil {
		return fail(err)
	}
	at, err := net.ResolveUDPAddr("udp", net.JoinHostPort(args[0], args[1]))
	if err != nil {
		return fail(err)
	}
	c, err := net.ListenMulticastUDP("udp", eth, at)
	if err != nil {
		return fail(err)
	}
	fmt.Println("listening")
	b := make([]byte, 2048)
	for {
		n, err := c.Read(b)
		if err != nil {
			return fail(err)
		}
		fmt.Printf("heard %s\n", b[:n])
	}
}

// progWatch prints the words beginning with probe- of all frames that its
// interfaces receive, whoever they are for.
func progWatch([]string) int {
	const all = 0x0300 // ETH_P_ALL in network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, all)
	if err != nil {
		return fail(err)
	}
	fmt.Println("watching")
	b := make([]byte, 65536)
	for {
		n, from, err := unix.Recvfrom(fd, b, 0)
		if err != nil {
			return fail(err)
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); !ok || ll.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		if _, word, ok := bytes.Cut(b[:n], []byte("probe-")); ok {
			fmt.Printf("saw probe-%s\n", word)
		}
	}
}

// progShout ADDR TEXT sends one datagram.
func progShout(args []string) int {
	c, err := net.Dial("udp", args[0])
	if err != nil {
		return fail(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(args[1])); err != nil {
		return fail(err)
	}
	return 0
}

// members waits until the groups are as want says: group and interface.
func (b *bench) members(want ...string) {
	b.t.Helper()
	var got []string
	for end := time.Now().Add(patience); time.Now().Before(end); {
		var list []api.GroupMember
		b.json(&list, "fdb", "--groups", "--json")
		got = nil
		for _, m := range list {
			got = append(got, m.Group+" "+m.Interface)
		}
		if strings.Join(got, ",") == strings.Join(want, ",") {
			return
		}
	}
	b.t.Fatalf("members are %q, not %q", got, want)
}

// Who joins a group hears it; who does not is not sent a frame of it, unless
// the network does not snoop.
func TestMulticast(t *testing.T) {
	b := newBench(t)
	b.up("-c", b.write("c.yaml", `networks:
  - {name: bridge, subnet: 172.17.0.0/16, subnet6: "fd00:17::/64"}
`))
	b.ok("network", "create", "--subnet", "172.21.0.0/16", "-o", "tapswitch.multicast_snooping=false", "plain")
	for _, x := range []struct {
		network, group, to, all string
		snoops                  bool
	}{
		{"bridge", "239.1.2.3", "239.1.2.3:5000", "172.17.255.255:5000", true},
		{"bridge", "ff15::123", "[ff15::123%eth0]:5000", "[ff02::1%eth0]:5000", true},
		{"plain", "239.1.2.3", "239.1.2.3:5000", "172.21.255.255:5000", false},
	} {
		in := b.start("run", "--rm", "--net", x.network, "--name", "in", "--", prog, "group", x.group, "5000")
		out := b.start("run", "--rm", "--net", x.network, "--name", "out", "--", prog, "watch")
		in.expect("listening")
		out.expect("watching")
		if x.snoops {
			b.members(x.group + " in:eth0")
		}
		shout := func(to, text string) {
			b.ok("run", "--rm", "--net", x.network, "--", prog, "shout", to, text)
		}
		shout(x.to, "probe-group")
		in.expect("heard probe-group")
		shout(x.all, "probe-all")
		got := out.expect("saw")
		if seen := strings.HasPrefix(got, "saw probe-group"); seen == x.snoops {
			t.Errorf("%s on %s: a container that is not in the group %s", x.group, x.network, got)
		}
		m := b.network(x.network).Multicast
		if m == nil || m.Snooping != x.snoops || x.snoops && (m.Members != 1 || m.Groups != 1 || m.Queries == 0) {
			t.Errorf("%s shows %+v", x.network, m)
		}
		b.ok("rm", "-f", "in", "out")
		in.wait()
		out.wait()
		b.members()
	}
	if got := b.network("plain").Options["tapswitch.multicast_snooping"]; got != "false" {
		t.Errorf("the option is %q", got)
	}
	b.fails(1, []string{"multicast_snooping", "maybe"}, "network", "create", "-o", "tapswitch.multicast_snooping=maybe", "x")
	b.fails(1, []string{"tapswitch.snoop", "multicast_snooping"}, "network", "create", "-o", "tapswitch.snoop=true", "x")
	b.ok("down")
	b.up("-c", b.dir+"/c.yaml")
	if m := b.network("plain").Multicast; m == nil || m.Snooping {
		t.Errorf("after a restart plain shows %+v", m)
	}
}
