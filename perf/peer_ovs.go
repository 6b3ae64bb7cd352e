package main

import (
	"context"
	"fmt"
	"os"
)

// ovs is Open vSwitch with its datapath in user space (datapath_type netdev) and
// segmentation offload, which it knows for veth pairs.
type ovs struct{}

func (ovs) name() string      { return "ovs-userspace" }
func (ovs) version() string   { return firstLine("ovs-vswitchd", "--version") }
func (ovs) paths() []pathName { return []pathName{pathContainer} }

func (ovs) about() string {
	return "Open vSwitch, datapath_type=netdev, userspace-tso-enable=true, a veth pair to each container, MTU 1500"
}

func (ovs) missing() string {
	for _, command := range []string{"ovs-vswitchd", "ovs-vsctl", "ovsdb-server", "ovsdb-tool"} {
		if why := needs(command, "openvswitch-switch"); why != "" {
			return why
		}
	}
	return ""
}

// ovsSchema describes the database of ovs-vswitchd.
func ovsSchema() string {
	dir := os.Getenv("OVS_PKGDATADIR")
	if dir == "" {
		dir = "/usr/share/openvswitch"
	}
	return dir + "/vswitch.ovsschema"
}

func (o ovs) start(ctx context.Context, l *lab) (*topology, error) {
	var running children
	paths, err := o.build(ctx, l, &running)
	if err != nil {
		running.stop()
		return nil, err
	}
	return &topology{paths: paths, stop: running.stop, died: running.died, roots: running.pids()}, nil
}

// build starts a database and a switch of its own: one that this host runs is
// neither asked nor touched.
func (ovs) build(ctx context.Context, l *lab, running *children) (map[pathName]path, error) {
	host := place{ns: l.host, env: []string{"OVS_RUNDIR=" + l.dir, "OVS_LOGDIR=" + l.dir, "OVS_DBDIR=" + l.dir}}
	db, socket := l.file("conf.db"), "unix:"+l.file("db.sock")
	if _, err := host.run(ctx, "ovsdb-tool", "create", db, ovsSchema()); err != nil {
		return nil, err
	}
	server, err := host.start(ctx, []string{"ovsdb-server", db, "--remote=p" + socket})
	if err != nil {
		return nil, err
	}
	*running = append(*running, server)
	// ovs-vsctl tries again until the server listens; --no-wait: there is no switch yet.
	vsctl := func(args ...string) error {
		_, err := host.run(ctx, append([]string{"ovs-vsctl", "--retry", "--timeout=20", "--db=" + socket}, args...)...)
		return err
	}
	if err := vsctl("--no-wait", "init", "--", "set", "Open_vSwitch", ".", "other_config:userspace-tso-enable=true"); err != nil {
		return nil, err
	}
	daemon, err := host.start(ctx, []string{"ovs-vswitchd", socket, "--pidfile"})
	if err != nil {
		return nil, err
	}
	*running = append(*running, daemon)
	if err := vsctl("add-br", "br0", "--", "set", "Bridge", "br0", "datapath_type=netdev"); err != nil {
		return nil, daemon.failure(err)
	}
	var containers [2]place
	for i := range containers {
		n, _, err := l.container(fmt.Sprintf("container%d", i+1))
		if err != nil {
			return nil, err
		}
		containers[i] = place{ns: n}
		port := fmt.Sprintf("port%d", i+1)
		if err := joinVeth(end{l.host, port, ""}, end{n, "eth0", fmt.Sprintf("10.88.0.%d/24", i+2)}); err != nil {
			return nil, err
		}
		if err := vsctl("add-port", "br0", port); err != nil {
			return nil, daemon.failure(err)
		}
	}
	return map[pathName]path{
		pathContainer: {client: containers[0], server: containers[1], address: "10.88.0.3"},
	}, nil
}
