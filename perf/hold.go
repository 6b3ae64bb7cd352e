package main

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// holdServer accepts connections, says "all" when it has as many as it waits for,
// and keeps them until the process ends.
func holdServer(port uint16, flows int) error {
	if err := raiseFiles(flows); err != nil {
		return err
	}
	fd, err := listenOn(unix.SOCK_STREAM, port)
	if err != nil {
		return err
	}
	sayReady()
	for range flows {
		err := again(func() error { _, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC); return err })
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
	}
	fmt.Println("all")
	select {}
}

// holdClient says "ready", opens connections when it is told to by a line on
// words, says "open", and keeps them until the process ends.
func holdClient(to netip.AddrPort, flows int, words <-chan struct{}) error {
	if err := raiseFiles(flows); err != nil {
		return err
	}
	sayReady()
	<-words
	for i := range flows {
		if _, err := connectTo(unix.SOCK_STREAM, to); err != nil {
			return fmt.Errorf("connection %d: %w", i+1, err)
		}
	}
	fmt.Println("open")
	select {}
}

// raiseFiles makes room for a descriptor for each flow.
func raiseFiles(flows int) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("descriptor limit: %w", err)
	}
	limit.Cur = limit.Max
	if limit.Max < uint64(flows)+64 {
		return fmt.Errorf("the descriptor limit of %d is too low for %d flows", limit.Max, flows)
	}
	return unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
}
