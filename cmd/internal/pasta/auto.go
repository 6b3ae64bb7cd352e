package pasta

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"time"

	"tapswitch/cmd/internal/face"
)

var little = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// followEvery is how often it is looked which ports listen, as pasta does.
const followEvery = time.Second

type portKey struct {
	proto string
	port  uint16
}

// ports are those of a namespace that somebody waits at: at any address, and at
// one that others than itself reach.
type ports struct{ any, open map[portKey]bool }

func portsOf(list []listening, ephemeral uint16) ports {
	p := ports{make(map[portKey]bool), make(map[portKey]bool)}
	for _, l := range list {
		k := portKey{l.Proto, l.Addr.Port()}
		if l.Proto == "udp" && k.port >= ephemeral {
			continue // a client's
		}
		p.any[k] = true
		if !l.Addr.Addr().IsLoopback() {
			p.open[k] = true
		}
	}
	return p
}

// follow keeps what -t, -u, -T and -U follow as it should be until stop is
// called.
func follow(o *options, sw *face.Switch, k *helper, r *relays) (stop func()) {
	auto := o.tcp.mode == portsAuto || o.udp.mode == portsAuto || o.tcpNS.mode == portsAuto || o.udpNS.mode == portsAuto
	if !auto {
		return func() {}
	}
	f := &follower{o: o, sw: sw, helper: k, relays: r, published: make(map[portKey]bool), relayed: make(map[portKey]bool)}
	f.look()
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(followEvery)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				f.look()
			case <-quit:
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

type follower struct {
	o         *options
	sw        *face.Switch
	helper    *helper
	relays    *relays
	published map[portKey]bool // into the namespace
	relayed   map[portKey]bool // out of it
}

// look compares what listens now with what is led where. A port that both ends
// have is led nowhere; one that somebody else has on the host stays theirs.
func (f *follower) look() {
	r, _, err := f.helper.ask(request{})
	if err != nil {
		return // the namespace is about to end
	}
	first := firstEphemeral()
	inside, outside := portsOf(r.Listening, first), portsOf(listeners("/proc/self/net"), first)
	for k := range inside.open {
		if f.follows(k, true) && !f.published[k] && !f.relayed[k] && !outside.any[k] {
			if f.sw.Publish([]string{f.spec(k)}, netip.Addr{}) == nil {
				f.published[k] = true
			}
		}
	}
	for k := range f.published {
		if !inside.open[k] {
			if f.sw.Unpublish([]string{f.spec(k)}) == nil {
				delete(f.published, k)
			}
		}
	}
	for k := range outside.any {
		if f.follows(k, false) && !f.relayed[k] && !f.published[k] && !inside.any[k] && f.relays.add(k.proto, k.port, k.port) == nil {
			f.relayed[k] = true
		}
	}
	for k := range f.relayed {
		if !outside.any[k] {
			f.relays.remove(k.proto, k.port)
			delete(f.relayed, k)
		}
	}
}

func (f *follower) follows(k portKey, in bool) bool {
	mode := map[bool]map[string]portMode{true: {"tcp": f.o.tcp.mode, "udp": f.o.udp.mode}, false: {"tcp": f.o.tcpNS.mode, "udp": f.o.udpNS.mode}}[in][k.proto]
	return mode == portsAuto && !f.o.without[k.proto]
}

func (f *follower) spec(k portKey) string {
	if f.o.only4 {
		return fmt.Sprintf("0.0.0.0:%d:%d/%s", k.port, k.port, k.proto)
	}
	return fmt.Sprintf("%d:%d/%s", k.port, k.port, k.proto)
}

// firstEphemeral is the first port that the kernel gives to clients.
func firstEphemeral() uint16 {
	var first, last uint16
	b, _ := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if n, _ := fmt.Sscan(string(b), &first, &last); n != 2 {
		return lastOrdinary + 1
	}
	return first
}
