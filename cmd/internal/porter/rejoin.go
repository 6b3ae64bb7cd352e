package porter

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/fdpass"
	"tapswitch/switch/ns"
)

// Attach opens and sets up interfaces in a namespace of somebody else, with
// the caller's rights, and returns their TAPs. With moved the devices are made
// elsewhere and given to the namespace, so that the TAPs report its end.
func Attach(h *ns.Handle, interfaces []api.Interface, moved bool) (taps []int, err error) {
	defer func() {
		if err != nil {
			fdpass.CloseAll(taps)
			taps = nil
		}
	}()
	for _, c := range interfaces {
		cfg, err := parseInterface(c)
		if err != nil {
			return taps, err
		}
		fd, err := attachOne(h, cfg, moved)
		if err != nil {
			return taps, err
		}
		taps = append(taps, fd)
	}
	return taps, nil
}

func attachOne(h *ns.Handle, cfg ns.Interface, moved bool) (int, error) {
	in, err := h.Enter()
	if err != nil {
		return -1, err
	}
	defer in.Close()
	if in.Has(cfg.Name) {
		return -1, fmt.Errorf("%s has an interface %s already: choose another name with --ifname", h.Name, cfg.Name)
	}
	maker := in
	if moved {
		if maker, err = h.EnterHub(); err != nil {
			return -1, err
		}
		defer maker.Close()
	}
	fd, err := maker.CreateTAP(cfg.Name, cfg.Offload)
	if err != nil {
		return -1, err
	}
	if moved {
		if err := maker.MoveTo(cfg.Name, int(h.Net)); err != nil {
			unix.Close(fd)
			return -1, fmt.Errorf("move %s to %s: %w", cfg.Name, h.Name, err)
		}
	}
	if err := in.Configure(cfg); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// onRejoin enters a namespace again that was on the switch before a restart,
// if it is still the same.
func (p *porter) onRejoin(m Message, r *Message) []int {
	j := m.Rejoin
	var h *ns.Handle
	var err error
	if j.Pid > 0 {
		if start, serr := StartTime(j.Pid); serr != nil || j.StartTime != 0 && start != j.StartTime {
			r.Err = api.Errorf(api.NotFound, "process %d is gone", j.Pid)
			return nil
		}
		h, err = ns.OfPID(j.Pid)
	} else {
		h, err = ns.OfPath(j.Netns)
	}
	if err != nil {
		r.Err = asError(err)
		return nil
	}
	defer h.Close()
	taps, err := Attach(h, j.Interfaces, j.Pid == 0)
	if err != nil {
		r.Err = asError(err)
		return nil
	}
	if j.Pid > 0 {
		fd, err := unix.PidfdOpen(j.Pid, 0)
		if err != nil {
			fdpass.CloseAll(taps)
			r.Err = asError(err)
			return nil
		}
		taps = append(taps, fd)
	}
	return taps
}

// StartTime is when a process started, in ticks since boot: with its number it
// names the process for good (proc(5), field 22 of stat).
func StartTime(pid int) (uint64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	i := bytes.LastIndexByte(b, ')')
	f := bytes.Fields(b[i+1:])
	if i < 0 || len(f) < 20 {
		return 0, fmt.Errorf("process %d: unreadable stat", pid)
	}
	return strconv.ParseUint(string(f[19]), 10, 64)
}
