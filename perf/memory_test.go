package main

import (
	"os"
	"slices"
	"testing"
)

func TestParseStat(t *testing.T) {
	for _, c := range []struct {
		text  string
		want  process
		wrong bool
	}{
		{text: "12 (sh) S 3 4 4 0 -1", want: process{12, 3, 4}},
		{text: "12 (a) R (b c) S 3 4 4 0 -1", want: process{12, 3, 4}},
		{text: "12 sh S 3 4", wrong: true},
		{text: "x (sh) S 3 4", wrong: true},
		{text: "12 (sh) S 3", wrong: true},
		{text: "", wrong: true},
	} {
		got, err := parseStat([]byte(c.text))
		if (err != nil) != c.wrong || got != c.want && !c.wrong {
			t.Errorf("%q: %+v, %v; want %+v", c.text, got, err, c.want)
		}
	}
}

func TestFamily(t *testing.T) {
	table := []process{
		{1, 0, 1}, {10, 1, 10}, {11, 10, 10}, {12, 11, 12}, // a child and a grandchild in a group of its own
		{13, 1, 10}, {14, 13, 14}, // one that left its parent but not the group, and its child
		{20, 1, 20}, {21, 20, 20},
	}
	for _, c := range []struct {
		roots, want []int
	}{
		{[]int{10}, []int{10, 11, 12, 13, 14}},
		{[]int{12}, []int{12}},
		{[]int{12, 20}, []int{12, 20, 21}},
		{[]int{99}, nil},
		{nil, nil},
	} {
		if got := family(table, c.roots); !slices.Equal(got, c.want) {
			t.Errorf("of %v: %v, want %v", c.roots, got, c.want)
		}
	}
}

func TestParsePSS(t *testing.T) {
	for _, c := range []struct {
		text  string
		want  float64
		wrong bool
	}{
		{text: "55d0-7ffe ---p 0 00:00 0 [rollup]\nRss:  900 kB\nPss:                 512 kB\nPss_Dirty: 1 kB\n", want: 512 * 1024},
		{text: "Rss: 900 kB\n", wrong: true},
		{text: "Pss: many kB\n", wrong: true},
	} {
		got, err := parsePSS(c.text)
		if (err != nil) != c.wrong || got != c.want {
			t.Errorf("%q: %v, %v; want %v", c.text, got, err, c.want)
		}
	}
}

func TestMemoryOfThisProcess(t *testing.T) {
	bytes, err := memoryOf(&topology{roots: []int{os.Getpid()}})
	if err != nil || bytes < 1e5 {
		t.Errorf("%v bytes, %v", bytes, err)
	}
	if bytes, err := memoryOf(&topology{}); err == nil {
		t.Errorf("of no process: %v bytes, want an error", bytes)
	}
}
