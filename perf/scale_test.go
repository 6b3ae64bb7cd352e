package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

func TestParseSwitches(t *testing.T) {
	for _, c := range []struct {
		text  string
		want  uint64
		wrong bool
	}{
		{text: "Name:\tsh\nvoluntary_ctxt_switches:\t42\nnonvoluntary_ctxt_switches:\t7\n", want: 42},
		{text: "nonvoluntary_ctxt_switches:\t7\n", wrong: true},
		{text: "voluntary_ctxt_switches:\tmany\n", wrong: true},
		{text: "", wrong: true},
	} {
		got, err := parseSwitches(c.text)
		if (err != nil) != c.wrong || got != c.want {
			t.Errorf("%q: %d, %v; want %d", c.text, got, err, c.want)
		}
	}
}

func TestSwitchesSince(t *testing.T) {
	for _, c := range []struct {
		name           string
		earlier, later switches
		want           uint64
	}{
		{"the same", switches{"a": 5}, switches{"a": 5}, 0},
		{"two", switches{"a": 5, "b": 1}, switches{"a": 7, "b": 4}, 5},
		{"one is new", switches{"a": 5}, switches{"a": 5, "b": 4}, 4},
		{"one has ended", switches{"a": 5, "b": 9}, switches{"a": 6}, 1},
	} {
		if got := c.later.since(c.earlier); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestSwitchesOfThisProcess(t *testing.T) {
	self := &topology{roots: []int{os.Getpid()}}
	before, err := switchesOf(self)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		time.Sleep(time.Microsecond)
	}
	after, err := switchesOf(self)
	if err != nil || after.since(before) == 0 {
		t.Errorf("after sleeping: %v, before: %v, %v", after, before, err)
	}
	if seen, err := switchesOf(&topology{}); err == nil {
		t.Errorf("of no process: %v, want an error", seen)
	}
}

// A few events are judged however far their numbers lie apart; others are not.
func TestFewEventsAreJudged(t *testing.T) {
	for _, c := range []struct {
		metric string
		noisy  bool
	}{{"switches_per_s", false}, {"gbit_per_s", true}} {
		r := result{Peer: us, Values: map[string]series{c.metric: {0, 1, 3, 9, 27}}}
		if r.noisy(c.metric) != c.noisy {
			t.Errorf("%s: noisy is %v, want %v", c.metric, r.noisy(c.metric), c.noisy)
		}
		if marked := strings.Contains(r.cell(c.metric), "!"); marked != c.noisy {
			t.Errorf("%s: %q", c.metric, r.cell(c.metric))
		}
	}
}

func TestInTurn(t *testing.T) {
	first := &topology{paths: map[pathName]path{pathOut: {address: "first"}}, died: func(time.Duration) error { return nil }}
	second := &topology{paths: map[pathName]path{pathOut: {address: "second"}}, died: func(time.Duration) error { return errors.New("it has died") }}
	var order []string
	values := []float64{1, 10, 30, 2}
	a, b, err := inTurn(t.Context(), nil, func(_ context.Context, _ *bench, _ *topology, p path) (sample, error) {
		order = append(order, p.address)
		return sample{"per_s": values[len(order)-1]}, nil
	}, "per_s", pathOut, first, second)
	if err != nil || a != 1.5 || b != 20 {
		t.Errorf("%v, %v, %v; want 1.5, 20", a, b, err)
	}
	if want := []string{"first", "second", "second", "first"}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
	_, _, err = inTurn(t.Context(), nil, func(_ context.Context, _ *bench, of *topology, _ path) (sample, error) {
		if of == second {
			return nil, errors.New("no answer")
		}
		return sample{"per_s": 1}, nil
	}, "per_s", pathOut, first, second)
	if err == nil || !strings.Contains(err.Error(), "no answer") || !strings.Contains(err.Error(), "it has died") {
		t.Errorf("error %v, want one with the failure and why", err)
	}
}

func TestConfigOfACrowd(t *testing.T) {
	for _, c := range []struct {
		peer peer
		want int
	}{
		{tapswitch{mtu: 1500}, 2},
		{tapswitch{mtu: 1500}.crowded(5), 5},
	} {
		var got struct {
			Containers []struct{ Name string }
		}
		if err := yaml.Unmarshal([]byte(c.peer.(tapswitch).config()), &got); err != nil {
			t.Fatal(err)
		}
		names := map[string]bool{}
		for _, container := range got.Containers {
			names[container.Name] = true
		}
		if len(names) != c.want || !names["a"] || !names["b"] {
			t.Errorf("containers %v, want %d", got.Containers, c.want)
		}
	}
}

func TestOffers(t *testing.T) {
	ours, bridge := tapswitch{mtu: 1500}, kernelBridge{}
	for _, c := range []struct {
		name string
		peer peer
		row  row
		want bool
	}{
		{"its path", bridge, row{path: pathContainer}, true},
		{"another path", bridge, row{path: pathOut}, false},
		{"about processes", bridge, row{path: pathNone, processes: true}, false},
		{"about processes, with some", ours, row{path: pathNone, processes: true}, true},
		{"named", ours, row{path: pathOut, only: []string{us}}, true},
		{"not named", bridge, row{path: pathContainer, only: []string{us}}, false},
		{"named, another path", bridge, row{path: pathOut, only: []string{"kernel-bridge"}}, false},
	} {
		if got := offers(c.peer, c.row); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestRowsNamePeers(t *testing.T) {
	peers := names(allPeers(nil))
	for _, r := range allRows() {
		for _, p := range r.only {
			if !slices.Contains(peers, p) {
				t.Errorf("row %s is for %q, which is no peer", r.id, p)
			}
		}
	}
}
