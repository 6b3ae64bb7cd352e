package engine

import (
	"context"
	"net/netip"
	"testing"

	"tapswitch/cmd/internal/api"
	"tapswitch/nat"
	"tapswitch/switch"
)

// bare is an engine of which nothing but what it tells is used.
func bare(t *testing.T) *Engine {
	t.Helper()
	e := &Engine{path: &datapath{Group: new(vswitch.Group)}}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.table.Store(&nameTable{})
	t.Cleanup(e.cancel)
	return e
}

// One who does not read loses events, is told how many, and holds up nobody; what
// he does not want does not count.
func TestSlowFollower(t *testing.T) {
	e := bare(t)
	e.tell(api.Event{Type: "config"}) // to nobody
	slow := e.Follow(nil)
	picky := e.Follow(func(x *api.Event) bool { return x.Type == "network" })
	for range followQueue + 100 {
		e.tell(api.Event{Type: "dns"})
	}
	e.tell(api.Event{Type: "network"})
	if n := len(slow.Events()); n != followQueue {
		t.Errorf("%d events are kept", n)
	}
	if n := slow.Missed(); n != 101 || slow.Missed() != 0 {
		t.Errorf("%d were missed", n)
	}
	if x := <-picky.Events(); x.Type != "network" || x.Time.IsZero() || len(picky.Events()) != 0 || picky.Missed() != 0 {
		t.Errorf("what was wanted: %+v", x)
	}
	e.Unfollow(slow)
	e.Unfollow(picky)
	if e.events.followed() || e.events.stop != nil {
		t.Error("somebody is told, and nobody follows")
	}
}

// The latest questions are kept, in their order; those that failed are merged.
func TestQuestionLog(t *testing.T) {
	var l questionLog
	for i := range keptQuestions + 5 {
		q := api.Question{Container: "web", Name: "a.test", Type: "A", Rcode: "NOERROR", By: "cache", TookMs: float64(i)}
		if i%2 == 1 {
			q.Rcode = "NXDOMAIN"
		}
		l.add(q)
	}
	all := l.all()
	if len(all) != keptQuestions || all[0].TookMs != 5 || all[len(all)-1].TookMs != keptQuestions+4 {
		t.Errorf("%d questions from %v to %v", len(all), all[0].TookMs, all[len(all)-1].TookMs)
	}
	if f := l.failures(); len(f) != 1 || f[0].Count != keptQuestions/2 || f[0].Reason != "nxdomain" || f[0].Why == "" || f[0].Remedy == "" || f[0].To != "A a.test" {
		t.Errorf("failures: %+v", f)
	}
	for reason, text := range questionFailures {
		if text.why == "" || text.remedy == "" {
			t.Errorf("%s is not explained", reason)
		}
	}
	for _, c := range []struct {
		q    api.Question
		want string
	}{
		{api.Question{Rcode: "NOERROR"}, ""}, {api.Question{Rcode: "REFUSED", By: "policy"}, "refused"}, {api.Question{Rcode: "SERVFAIL", By: "internal"}, "internal"},
		{api.Question{Rcode: "REFUSED", By: "limit"}, "busy"}, {api.Question{Rcode: "SERVFAIL", By: "nobody", TimedOut: true}, "timed-out"},
		{api.Question{Rcode: "SERVFAIL", By: "nobody"}, "servfail"}, {api.Question{Rcode: "NOTIMP", By: "upstream"}, "failed"},
	} {
		if got := reasonOf(&c.q); got != c.want || got != "" && questionFailures[got].why == "" {
			t.Errorf("%+v: %q, want %q", c.q, got, c.want)
		}
	}
}

// Names of interfaces that have gone are kept for those who ask later, and never
// more than so many.
func TestNamesAreBounded(t *testing.T) {
	e := bare(t)
	for i := range 3 * keptNames {
		e.memory.hear("x.test", []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})})
	}
	if n := len(e.memory.told); n == 0 || n > keptNames {
		t.Errorf("%d names are kept", n)
	}
	last := 3*keptNames - 1
	if got := e.nameOf(netip.AddrFrom4([4]byte{10, byte(last >> 16), byte(last >> 8), byte(last)})); got != "x.test" {
		t.Errorf("the latest is %q", got)
	}
}

// FuzzFlowFilter: what is understood takes or leaves every flow, and what is not
// is an error.
func FuzzFlowFilter(f *testing.F) {
	for _, s := range []string{"80", ":80", "10.0.0.1", "10.0.0.1:80", "10.0.0.0/8", "[fd00::1]:80", "fd00::/8", "::ffff:10.0.0.1", "0", "70000", "/", "[", "fe80::1%eth0"} {
		f.Add("web", "tcp", "established", s)
	}
	flow := nat.Flow{Proto: 6, State: "established", Remote: netip.MustParseAddrPort("10.0.0.1:80"), Peer: netip.MustParseAddrPort("[fd00::1]:80")}
	f.Fuzz(func(t *testing.T, container, proto, state, remote string) {
		w, err := parseFlowFilter(api.FlowFilter{Container: container, Proto: proto, State: state, Remote: remote})
		if err == nil {
			w.takes(&flow)
			w.takes(&nat.Flow{})
		}
	})
}
