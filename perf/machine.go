package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A machine is where the numbers were made.
type machine struct {
	CPU      string `json:"cpu"`
	Cores    int    `json:"cores"`
	MemoryMB int    `json:"memory_mb"`
	Kernel   string `json:"kernel"`
	System   string `json:"system"`
	// Congestion is the TCP congestion control that all namespaces begin with.
	Congestion string `json:"congestion_control"`
}

func thisMachine() machine {
	m := machine{
		CPU:    fieldOf("/proc/cpuinfo", "model name", ":"),
		Cores:  runtime.NumCPU(),
		Kernel: kernelRelease(),
		System: strings.Trim(fieldOf("/etc/os-release", "PRETTY_NAME", "="), `"`),
	}
	congestion, _ := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control")
	m.Congestion = strings.TrimSpace(string(congestion))
	kb, _ := strconv.Atoi(strings.TrimSuffix(fieldOf("/proc/meminfo", "MemTotal", ":"), " kB"))
	m.MemoryMB = kb / 1024
	return m
}

func (m machine) String() string {
	return fmt.Sprintf("%s, %d cores, %d MB, Linux %s, %s, TCP congestion control %s", m.CPU, m.Cores, m.MemoryMB, m.Kernel, m.System, m.Congestion)
}

func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

// fieldOf returns the value of the first "key SEPARATOR value" line of a file.
func fieldOf(file, key, separator string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		k, v, found := strings.Cut(line, separator)
		if found && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// A busyTime is what all processors together have spent since boot, or in an
// interval, in seconds.
type busyTime struct {
	Busy    float64 `json:"busy_seconds"`    // user, nice, system, interrupts
	Stolen  float64 `json:"stolen_seconds"`  // by other guests of the hypervisor
	Elapsed float64 `json:"elapsed_seconds"` // of the clock; only in an interval
}

// tick is the unit of /proc/stat (USER_HZ, 100 on every Linux that Go runs on).
const tick = 0.01

func busyNow() (busyTime, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return busyTime{}, err
	}
	return parseBusy(stat)
}

// parseBusy reads the line of all processors (proc(5), /proc/stat).
func parseBusy(stat []byte) (busyTime, error) {
	lines := bufio.NewScanner(bytes.NewReader(stat))
	lines.Scan()
	fields := strings.Fields(lines.Text())
	if len(fields) < 9 || fields[0] != "cpu" {
		return busyTime{}, fmt.Errorf("/proc/stat: cannot read %q", lines.Text())
	}
	var v [8]float64 // user nice system idle iowait irq softirq steal
	for i := range v {
		ticks, err := strconv.ParseUint(fields[i+1], 10, 64)
		if err != nil {
			return busyTime{}, fmt.Errorf("/proc/stat: %w", err)
		}
		v[i] = float64(ticks) * tick
	}
	return busyTime{Busy: v[0] + v[1] + v[2] + v[5] + v[6], Stolen: v[7]}, nil
}

// busyDuring runs f and says what the processors spent meanwhile.
func busyDuring(f func() error) (busyTime, error) {
	before, err := busyNow()
	if err != nil {
		return busyTime{}, err
	}
	begin := time.Now()
	if err := f(); err != nil {
		return busyTime{}, err
	}
	after, err := busyNow()
	return busyTime{
		Busy:    after.Busy - before.Busy,
		Stolen:  after.Stolen - before.Stolen,
		Elapsed: time.Since(begin).Seconds(),
	}, err
}
