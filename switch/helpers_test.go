package vswitch_test

import (
	"net/netip"
	"os"
	"testing"
)

type addr = netip.Addr

func addrFrom4(a [4]byte) addr { return netip.AddrFrom4(a) }

// TestMain plays the part of a program inside a container when it is told so.
func TestMain(m *testing.M) {
	if os.Getenv(containerVariable) != "" {
		os.Exit(container())
	}
	os.Exit(m.Run())
}
