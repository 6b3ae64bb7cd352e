package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"tapswitch/nat"
	"tapswitch/switch"
	"tapswitch/switch/ns"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	sw, err := vswitch.New(vswitch.Config{Logf: func(f string, a ...any) { fmt.Fprintf(os.Stderr, f+"\n", a...) }})
	must(err)
	n, err := nat.New(sw, nat.Config{})
	must(err)
	br := sw.AddBridge(vswitch.BridgeConfig{Name: "bridge", Subnet: netip.MustParsePrefix("172.17.0.0/16"), Gateway: netip.MustParseAddr("172.17.0.1"), Subnet6: netip.MustParsePrefix("fd00:17::/64"), Gateway6: netip.MustParseAddr("fd00:17::1"), MTU: 1500})
	for i, name := range os.Args[1:] {
		h, err := ns.OfPath("/run/netns/" + name)
		must(err)
		in, err := h.Enter()
		must(err)
		fd, err := in.CreateTAP("eth0", true)
		must(err)
		ip := netip.AddrFrom4([4]byte{172, 17, 0, byte(2 + i)})
		ip6 := netip.MustParseAddr(fmt.Sprintf("fd00:17::%d", 2+i))
		mac := vswitch.MAC{2, 0x42, 172, 17, 0, byte(2 + i)}
		must(in.Configure(ns.Interface{Name: "eth0", MTU: 1500, MAC: net.HardwareAddr(mac[:]), Addrs: []netip.Prefix{netip.PrefixFrom(ip, 16), netip.PrefixFrom(ip6, 64)}, Gateway: br.Gateway, Gateway6: br.Gateway6, Offload: true}))
		in.Close()
		t, err := vswitch.NewTAP(fd)
		must(err)
		p, err := sw.AddPort(vswitch.PortConfig{Name: name, Device: t, Bridge: br, MAC: mac, Addrs: []netip.Addr{ip, ip6}})
		must(err)
		if i == 1 {
			for _, a := range []string{"0.0.0.0:5201", "[::]:5201"} {
				ap := netip.MustParseAddrPort(a)
				fam := "tcp4"
				if ap.Addr().Is6() {
					fam = "tcp6"
				}
				l, err := net.Listen(fam, a)
				must(err)
				f, _ := l.(*net.TCPListener).File()
				lfd, _ := syscall.Dup(int(f.Fd()))
				syscall.SetNonblock(lfd, true)
				_, err = n.Publish(nat.Publish{Proto: 6, Host: ap, FD: lfd, Port: p, ContainerPort: 5201, Target4: ip, Target6: ip6})
				must(err)
				ul, err := net.ListenPacket("udp"+fam[3:], a)
				must(err)
				uf, _ := ul.(*net.UDPConn).File()
				ufd, _ := syscall.Dup(int(uf.Fd()))
				syscall.SetNonblock(ufd, true)
				_, err = n.Publish(nat.Publish{Proto: 17, Host: ap, FD: ufd, Port: p, ContainerPort: 5201, Target4: ip, Target6: ip6})
				must(err)
			}
		}
	}
	go sw.Run()
	fmt.Println("ready")
	c := make(chan os.Signal, 1)
	signal.Notify(c, os.Interrupt, syscall.SIGTERM)
	<-c
	sw.Do(func() {
		for _, b := range sw.Bridges() {
			for _, p := range b.Ports() {
				fmt.Printf("%s hits %d up %d rx %d tx %d", p.Name, p.Stats.Hits, p.Stats.Upcalls, p.Stats.RxFrames, p.Stats.TxFrames)
				for r, x := range p.Stats.Drops {
					if x > 0 {
						fmt.Printf(" %s=%d", vswitch.Reason(r), x)
					}
				}
				fmt.Println()
			}
		}
		fmt.Printf("%+v\n", n.Stats)
	})
	_ = time.Now
}
