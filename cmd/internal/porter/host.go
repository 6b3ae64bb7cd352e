package porter

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
	"tapswitch/switch/ns"
)

// hostPatience is for an interface of ours that has just been given up: the
// kernel takes a moment to take it away.
const hostPatience = 500 * time.Millisecond

// onHost makes an interface of the host's own on one of our networks and returns
// its TAP. It is gone with the last descriptor of that, whoever dies how. As
// a check it says whether it could be made; with Replace one of that name may be
// there, since it will be gone by then.
func (p *porter) onHost(m Message, r *Message) []int {
	c := *m.Interface
	fd, err := makeHost(c, m.Text == "check")
	if err != nil {
		r.Err = asError(err)
		return nil
	}
	if fd < 0 {
		return nil
	}
	return []int{fd}
}

func makeHost(c api.Interface, check bool) (int, error) {
	if os.Geteuid() != 0 {
		return -1, notRoot(c.Name)
	}
	cfg, err := parseInterface(c)
	if err != nil {
		return -1, err
	}
	in, err := ns.OpenInside()
	if err != nil {
		return -1, hostError(c.Name, err)
	}
	defer in.Close()
	for end := time.Now().Add(hostPatience); in.Has(c.Name) && !(check && c.Replace); time.Sleep(10 * time.Millisecond) {
		if check || time.Now().After(end) { // one that is persistent would be taken over, not made
			return -1, api.Errorf(api.Conflict, "host_interface %s: an interface of that name is there already: write another name, or take that one away (ip link show %s)", c.Name, c.Name)
		}
	}
	name := c.Name
	if check {
		name = "tapswitch%d" // the kernel's to number
	}
	fd, err := in.CreateTAP(name, true)
	if errors.Is(err, unix.EPERM) {
		return -1, notRoot(c.Name)
	}
	if err != nil {
		return -1, hostError(c.Name, err)
	}
	if check {
		unix.Close(fd)
		return -1, nil
	}
	if err := in.ConfigureLink(cfg); err != nil {
		unix.Close(fd)
		return -1, hostError(c.Name, err)
	}
	return fd, nil
}

// notRoot is the refusal: rootless there is no capability in the host's network
// namespace, nor has root of a user namespace one there.
func notRoot(name string) error {
	return api.Errorf(api.Failed, "host_interface %s: only root may make an interface in the host's network namespace: run the switch as root, or take host_interface away and publish ports, or mirror the network (mirror: 127.18.0.0/16)", name)
}

func hostError(name string, err error) error {
	return api.Errorf(api.Failed, "host_interface %s: %v", name, err)
}
