package main

import (
	"os"
	"os/user"
	"testing"
)

func TestListsUser(t *testing.T) {
	u := &user.User{Username: "anna", Uid: "1000"}
	for _, c := range []struct {
		file string
		want bool
	}{
		{"", false},
		{"anna:100000:65536\n", true},
		{"root:1:1\n1000:100000:65536", true},
		{"annabel:100000:65536\n10000:1:1\n", false},
		{"anna\n", false},
	} {
		if got := listsUser(c.file, u); got != c.want {
			t.Errorf("%q: %v, want %v", c.file, got, c.want)
		}
	}
}

func TestSubordinateSkipsRoot(t *testing.T) {
	for _, text := range []string{"", "root:100000:65536\n", "no-such-user-here:100000:65536\n"} {
		file := t.TempDir() + "/subuid"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if as, err := subordinate(file); err == nil {
			t.Errorf("%q: found %+v", text, as)
		}
	}
}
