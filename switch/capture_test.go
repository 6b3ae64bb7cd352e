package vswitch_test

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"

	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

// taken reads all that a capture holds, with the frames' bytes.
func taken(c *vswitch.Capture) (frames []vswitch.Captured, data [][]byte) {
	for {
		list := c.Read()
		if len(list) == 0 {
			return frames, data
		}
		for i := range list {
			frames = append(frames, list[i])
			data = append(data, bytes.Clone(c.Bytes(&list[i])[vswitch.VnetLen:]))
		}
		c.Done(len(list))
	}
}

// Each frame is captured once, where it came from, with what became of it; of
// the gateway's own each has a record, too, those it answers with among them.
func TestCapture(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a, b := n.Host(br, "a", "172.17.0.2"), n.Host(br, "b", "172.17.0.3")
	n.Gateway.Decide = func(*vswitch.Frame) vswitch.Action {
		return vswitch.Action{Kind: vswitch.ActGateway, Flow: 6, FlowGen: 9}
	}
	a.Send(a.To(b).UDP(1, 2, nil)) // before anybody watches
	c := vswitch.NewCapture(64, false)
	n.SetCapture(c)
	a.Send(a.To(b).UDP(1, 2, make([]byte, 500)))
	a.Send(with(a.To(b), func(p *switchtest.Packet) { p.SrcMAC = vswitch.MAC{2, 9} }).UDP(1, 2, nil))
	a.Send(a.Out("192.0.2.1").UDP(1, 2, nil))
	n.Output(b.Port, b.To(a).UDP(3, 4, nil)) // the gateway's own
	a.Send(switchtest.ARP{SrcMAC: a.MAC, DstMAC: vswitch.Broadcast, Op: 1, SenderMAC: a.MAC, SenderIP: a.Addrs[0], TargetIP: br.Gateway}.Frame())
	if !(vswitch.Captures{c}).Wait(nil) {
		t.Fatal("nothing came")
	}
	got, data := taken(c)
	if len(got) != 6 || c.Missed() != 0 {
		t.Fatalf("%d frames", len(got))
	}
	for i, want := range []vswitch.Captured{
		{Port: a.ID, Received: true, Length: 542, Out: b.ID, Outs: 1},
		{Port: a.ID, Received: true, Length: 42, Reason: vswitch.SpoofedMAC},
		{Port: a.ID, Received: true, Length: 42, Flow: 7, FlowGen: 9},
		{Port: b.ID, Length: 42},
		{Port: a.ID, Received: true, Length: 42, Out: a.ID, Outs: 1},
		{Port: a.ID, Length: 42},
	} {
		g := got[i]
		if g.Port != want.Port || g.Received != want.Received || g.Length != want.Length || g.Out != want.Out || g.Outs != want.Outs || g.Reason != want.Reason ||
			g.Flow != want.Flow || g.FlowGen != want.FlowGen || len(data[i]) != min(want.Length, 64) {
			t.Errorf("frame %d is %+v", i, g)
		}
	}
	n.SetCapture(nil)
	a.Send(a.To(b).UDP(1, 2, nil))
	if got, _ = taken(c); len(got) != 0 {
		t.Errorf("%d frames with nobody watching", len(got))
	}
}

// With exits a frame has a record where it leaves the switch, too, for each of
// the ports that it goes to.
func TestCaptureExits(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a, b, d := n.Host(br, "a", "172.17.0.2"), n.Host(br, "b", "172.17.0.3"), n.Host(br, "d", "172.17.0.4")
	c := vswitch.NewCapture(64, true)
	n.SetCapture(c)
	a.Send(a.To(b).UDP(1, 2, nil))
	a.Send(with(a.To(b), func(p *switchtest.Packet) { p.DstMAC = vswitch.Broadcast }).UDP(1, 2, nil))
	got, _ := taken(c)
	if len(got) != 5 {
		t.Fatalf("%d frames: %+v", len(got), got)
	}
	for i, want := range []struct {
		port, out vswitch.PortID
		outs      uint32
		exit      bool
	}{{a.ID, b.ID, 1, false}, {b.ID, a.ID, 0, true}, {a.ID, b.ID, 2, false}, {b.ID, a.ID, 0, true}, {d.ID, a.ID, 0, true}} {
		if g := got[i]; g.Port != want.port || g.Out != want.out || g.Outs != want.outs || g.Exit != want.exit || g.Received == want.exit {
			t.Errorf("frame %d is %+v", i, g)
		}
	}
}

// Lost on purpose is lost with a record.
func TestCaptureImpaired(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a, b := n.Host(br, "a", "172.17.0.2"), n.Host(br, "b", "172.17.0.3")
	n.SetShape(a.Port, vswitch.Shape{Loss: 1})
	c := vswitch.NewCapture(64, false)
	n.SetCapture(c)
	a.Send(a.To(b).UDP(1, 2, nil))
	if got, _ := taken(c); len(got) != 1 || got[0].Reason != vswitch.Impaired || got[0].Out != 0 {
		t.Errorf("captured: %+v", got)
	}
}

// A reader that never reads: what is too much is counted, by frames and by
// bytes, and traffic goes on. What it then finds is whole and in order.
func TestCaptureNobodyReads(t *testing.T) {
	for _, snap := range []int{64, 256, 65535} {
		n := switchtest.NewNet(t)
		br := n.Bridge("bridge", "172.17.0.0/16")
		a, b := n.Host(br, "a", "172.17.0.2"), n.Host(br, "b", "172.17.0.3")
		c := vswitch.NewCapture(snap, false)
		n.SetCapture(c)
		const total = 9000
		var want [][]byte
		for i := range total {
			frame := a.To(b).UDP(1, 2, bytes.Repeat([]byte{byte(i)}, 1+i*7%9000))
			a.Send(frame)
			want = append(want, frame[vswitch.VnetLen:])
			b.Dev.Discard()
		}
		if b.Stats.RxFrames != total {
			t.Errorf("snap %d: %d frames came through", snap, b.Stats.RxFrames)
		}
		got, data := taken(c)
		missed := c.Missed()
		if uint64(len(got))+missed != total || missed == 0 || len(got) == 0 {
			t.Errorf("snap %d: %d frames, %d missed", snap, len(got), missed)
		}
		at := 0 // a small one may have found room where a large one did not
		for i, d := range data {
			for at < total && (got[i].Length != len(want[at]) || !bytes.Equal(d, want[at][:min(len(want[at]), snap)])) {
				at++
			}
			if at++; at > total {
				t.Fatalf("snap %d: frame %d is none that was sent", snap, i)
			}
		}
		a.Send(a.To(b).UDP(1, 2, nil)) // there is room again
		if got, _ = taken(c); len(got) != 1 {
			t.Errorf("snap %d: %d frames afterwards", snap, len(got))
		}
	}
}

// Reading while frames pass loses and mixes up nothing, round the ring's end.
func TestCaptureWhileRead(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16")
	a, b := n.Host(br, "a", "172.17.0.2"), n.Host(br, "b", "172.17.0.3")
	c := vswitch.NewCapture(1000, false)
	n.SetCapture(c)
	const total = 40_000
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		seen, last := 0, -1
		defer func() { done <- seen }()
		for (vswitch.Captures{c}).Wait(stop) {
			list := c.Read()
			for i := range list {
				f, d := &list[i], c.Bytes(&list[i])[vswitch.VnetLen:]
				at := int(d[42])<<16 | int(d[43])<<8 | int(d[44])
				if f.Out != b.ID || f.Outs != 1 || at <= last || f.Length != 45+at%900 || len(d) != f.Length || d[len(d)-1] != d[min(len(d)-1, 45)] {
					t.Errorf("after %d: %+v", last, f)
					return
				}
				last = at
			}
			seen += len(list)
			c.Done(len(list))
		}
	}()
	p := a.To(b)
	for i := range total {
		payload := append([]byte{byte(i >> 16), byte(i >> 8), byte(i)}, bytes.Repeat([]byte{byte(i)}, i%900)...)
		a.Send(p.UDP(1, 2, payload))
		b.Dev.Discard()
	}
	for len(c.Read()) > 0 { // the rest
		select {
		case got := <-done:
			t.Fatalf("the reader ended after %d", got)
		default:
			runtime.Gosched()
		}
	}
	close(stop)
	if got := <-done; got+int(c.Missed()) != total {
		t.Errorf("%d of %d", got, total)
	}
}

// What a captured super-frame is split into is what a port without offloads is
// given; other frames stay, with a finished checksum.
func TestSplitter(t *testing.T) {
	n := switchtest.NewNet(t)
	br := n.Bridge("bridge", "172.17.0.0/16", "fd00:17::/64")
	a, plain := n.Host(br, "a", "172.17.0.2", "fd00:17::2"), n.Plain(br, "plain", "172.17.0.4")
	var x vswitch.Splitter
	split := func(b []byte) (out [][]byte) {
		before := bytes.Clone(b)
		x.Split(b, func(b []byte) { out = append(out, bytes.Clone(b)) })
		if !bytes.Equal(b, before) {
			t.Error("the frame is another now")
		}
		return out
	}
	tcp := a.To(plain).TCP(ack, pattern(9000))
	for name, frame := range map[string][]byte{"tcp": switchtest.Super(tcp, vswitch.GSOTCPv4, 1448), "udp": switchtest.Super(a.To(plain).UDP(1, 2, pattern(5000)), vswitch.GSOUDPL4, 1000),
		"partial": switchtest.Partial(a.To(plain).TCP(ack, pattern(100))), "whole": a.To(plain).UDP(1, 2, pattern(99))} {
		got := split(frame)
		a.Send(frame)
		want := plain.Dev.Take()
		if len(got) != len(want) {
			t.Errorf("%s: %d frames, want %d", name, len(got), len(want))
			continue
		}
		for i := range got {
			if !bytes.Equal(got[i][vswitch.VnetLen:], want[i][vswitch.VnetLen:]) {
				t.Errorf("%s: frame %d is %x, want %x", name, i, got[i], want[i])
			}
		}
	}
	long := switchtest.Super(tcp, vswitch.GSOTCPv4, 1448)
	whole := split(long)
	long[vswitch.VnetLen+vswitch.EthLen+2], long[vswitch.VnetLen+vswitch.EthLen+3] = 0, 0 // as beyond 64 KiB
	if got := split(long); len(got) != len(whole) || !bytes.Equal(got[3], whole[3]) {
		t.Errorf("without a length: %d frames, want %d", len(got), len(whole))
	}
	bad := append([]byte{}, long[:60]...)
	if got := split(bad); len(got) != 1 || !bytes.Equal(got[0], bad) {
		t.Errorf("one that is cut: %d frames", len(got))
	}
}

// BenchmarkCapture is BenchmarkHit with a reader beside it that looks at nothing:
// what the loop pays.
func BenchmarkCapture(b *testing.B) {
	for _, frame := range []struct {
		name  string
		frame []byte
	}{{"small", v4.TCP(ack, nil)}, {"1400", v4.TCP(ack, make([]byte, 1400))}, {"super", switchtest.Super(v4.TCP(ack, make([]byte, 60000)), vswitch.GSOTCPv4, 1448)}} {
		for _, snap := range []int{0, 128, 256, 262144} {
			b.Run(fmt.Sprintf("frame=%s/snap=%d", frame.name, snap), func(b *testing.B) {
				n, from, _ := benchWorld(b, switchtest.All)
				stop := make(chan struct{})
				if snap > 0 {
					c := vswitch.NewCapture(snap, false)
					n.SetCapture(c)
					go func() {
						for (vswitch.Captures{c}).Wait(stop) {
							c.Done(len(c.Read()))
						}
					}()
				}
				defer close(stop)
				for b.Loop() {
					n.Turn(from.Port, frame.frame)
				}
			})
		}
	}
}
