package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime/debug"
	"testing"
	"time"
)

// A sink that has hushed Go's scheduler waits, and ends all the same: the
// scheduler's signals must not begin its last wait anew each 10 ms.
func TestHushedSinkEnds(t *testing.T) {
	f := testFloods[0]
	if os.Getenv("PERF_TEST_HUSHED") != "" {
		var port uint16
		fmt.Sscan(os.Getenv("PERF_TEST_HUSHED"), &port)
		debug.SetGCPercent(-1) // as runTool does
		hush()
		stats, err := f.sinkOn(port, 5*time.Second, func() { fmt.Println("ready") })
		if err != nil {
			t.Fatal(err)
		}
		json.NewEncoder(os.Stdout).Encode(stats)
		os.Exit(0)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	port := freePort(t)
	sink := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestHushedSinkEnds$")
	sink.Env = append(os.Environ(), fmt.Sprintf("PERF_TEST_HUSHED=%d", port))
	out, err := sink.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sink.Start(); err != nil {
		t.Fatal(err)
	}
	defer sink.Wait()
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Fatalf("the sink said %q", lines.Text())
	}
	sent, err := f.sourceTo(local(port))
	if err != nil {
		t.Fatal(err)
	}
	var got sinkStats
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &got) != nil {
		t.Fatalf("the sink did not end: %q", lines.Text())
	}
	checkFlood(t, sent, got)
}
