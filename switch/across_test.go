package vswitch_test

import (
	"bytes"
	"testing"

	"tapswitch/switch"
	"tapswitch/switch/switchtest"
)

// TestHandOver: a frame whose flow belongs to another thread is decided about
// there, as if it had been read there, and counts once. What is handed over to
// one that does not want it either ends.
func TestHandOver(t *testing.T) {
	g := newThreads(t, 3)
	gws := make([]switchtest.Gateway, 3)
	seg := g.AddBridge(twoSubnets[0])
	g.Each(func(i int, s *vswitch.Switch) {
		s.SetGateway(&gws[i])
		gws[i].Decide = func(f *vswitch.Frame) vswitch.Action {
			switch {
			case f.DstPort() == 2: // nobody's
				return vswitch.Action{Kind: vswitch.ActHandOver, Flow: uint32(2 - i)}
			case i == 0:
				return vswitch.Action{Kind: vswitch.ActHandOver, Flow: 2}
			}
			return vswitch.Action{Kind: vswitch.ActGateway, Flow: 7, FlowGen: 1}
		}
	})
	from := g.host(0, seg, false, "172.17.0.2")
	p := switchtest.Packet{SrcMAC: from.Port.MAC, DstMAC: seg.MAC(), Src: from.Port.Addrs[0], Dst: twoSubnets[0].Gateway}
	send := func(dst uint16, n int) (frame []byte) {
		for range n {
			frame = p.UDP(1, dst, []byte("to another thread"))
			if e := g.ends[0].Write(frame); e != 0 {
				t.Fatal(e)
			}
		}
		g.idle()
		return frame
	}
	frame := send(1, 5)
	g.Shards[2].Do(func() {
		d := gws[2].Delivered
		if len(d) != 5 || len(gws[0].Delivered)+len(gws[1].Delivered) != 0 {
			t.Fatalf("%d of 5 frames came, %d and %d elsewhere", len(d), len(gws[0].Delivered), len(gws[1].Delivered))
		}
		for _, x := range d {
			if !bytes.Equal(x.Frame, frame) || x.In.Name != "172.17.0.2" || !x.In.Mirror() {
				t.Errorf("%x came from %s", x.Frame, x.In.Name)
			}
		}
		if gws[2].Resolved != 1 {
			t.Errorf("it was decided %d times about one flow", gws[2].Resolved)
		}
	})
	if s := g.Stats(from); s.TxFrames != 5 || s.TxBytes != uint64(5*(len(frame)-vswitch.VnetLen)) {
		t.Errorf("5 frames count as %d, %d bytes", s.TxFrames, s.TxBytes)
	}
	send(2, 1)
	if s := g.Stats(from); s.Drops[vswitch.NoBuffer] != 1 {
		t.Errorf("a frame that is handed on and on: dropped %v", s.Drops)
	}

	// While frames are on their way the port goes.
	for range 50 {
		g.ends[0].Write(frame)
	}
	if d, _ := g.RemovePort(from); d == nil {
		t.Fatal("no device")
	} else {
		d.Close()
	}
}
