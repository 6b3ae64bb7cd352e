package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/joiner"
	"tapswitch/switch/ns"
)

type joinFlags struct {
	pid             int
	netns, ifname   string
	offload, spoof  string
	egress          string
	shape           api.Shape
	networks, ports []string
	noRoute         bool
}

func joinCommand() *cobra.Command {
	var f joinFlags
	cmd := &cobra.Command{
		Use:   "join NAME --pid PID | --netns PATH",
		Short: "Put a namespace that somebody else made on the switch",
		Long: `Put a network namespace that somebody else made (podman, Docker, RootlessKit, ip netns, unshare) on the switch, under
a name. It must be yours; for one that root made use sudo, with --socket naming your switch. The port is gone when
the process of --pid ends, or when the namespace of --netns does, or with "leave".

  podman run -d --network none --name c1 alpine sleep 1000
  tapswitch join c1 --pid $(podman inspect -f '{{.State.Pid}}' c1)
  sudo tapswitch --socket $XDG_RUNTIME_DIR/tapswitch/tapswitch.sock join lab --netns /run/netns/lab`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return join(args[0], f) },
	}
	fl := cmd.Flags()
	fl.IntVar(&f.pid, "pid", 0, "the namespace of process `PID`")
	fl.StringVar(&f.netns, "netns", "", "the namespace bound to `PATH`, such as /run/netns/NAME")
	fl.StringArrayVar(&f.networks, "network", nil, "`NET[:ip=A,...]` to be on, as with run; --net is the same")
	fl.SetNormalizeFunc(networkAlias)
	fl.StringVar(&f.ifname, "ifname", "", "name of the interface inside (default eth0)")
	fl.StringArrayVarP(&f.ports, "publish", "p", nil, "`[HOSTIP:][HOSTPORT]:PORT[/udp]` to publish")
	fl.StringVar(&f.offload, "offload", "on", "`on|off`: super-frames and open checksums on the TAP")
	fl.StringVar(&f.egress, "egress", "", "what it may reach outside: all, internet, none, or a `POLICY` (default: its network's)")
	shapeFlags(fl, &f.shape)
	fl.StringVar(&f.spoof, "spoof", "deny", "`allow|deny`: frames with other addresses than its own")
	fl.BoolVar(&f.noRoute, "no-default-route", false, "leave the namespace's default route alone")
	_ = cmd.RegisterFlagCompletionFunc("network", completeNetworks)
	return cmd
}

func join(name string, f joinFlags) error {
	if (f.pid > 0) == (f.netns != "") {
		return usageError{errors.New("join needs --pid or --netns")}
	}
	r := api.Reserve{Name: name, Publish: f.ports, PlainTAP: f.offload == "off", Spoof: f.spoof == "allow", Pid: f.pid, Netns: f.netns, NoRoute: f.noRoute, Egress: f.egress, Shape: f.shape, Origin: "cli"}
	for _, n := range f.networks {
		a, err := parseAttachment(n)
		if err != nil {
			return usageError{err}
		}
		r.Networks = append(r.Networks, a)
	}
	if f.ifname != "" {
		if len(r.Networks) > 1 {
			return usageError{errors.New("--ifname with several networks: write it into each, --network NET:ifname=NAME")}
		}
		if len(r.Networks) == 0 {
			r.Networks = []api.Attachment{{}}
		}
		r.Networks[0].IfName = f.ifname
	}
	c, err := connect()
	if err != nil {
		return err
	}
	var h *ns.Handle
	if f.pid > 0 {
		r.Lifetime = joiner.ByProcess
		h, err = ns.OfPID(f.pid)
	} else {
		r.Lifetime = joiner.ByDevice
		h, err = ns.OfPath(f.netns)
	}
	if err != nil {
		return err
	}
	defer h.Close()
	made, res, err := joiner.Join(c, h, r)
	if err != nil {
		return err
	}
	for _, n := range made.Networks {
		fmt.Printf("%s %s on %s, gateway %s\n", n.IfName, strings.TrimSpace(n.IP+" "+n.IP6), n.Network, n.Gateway)
	}
	if len(res.DNS) > 0 {
		fmt.Fprintf(os.Stderr, "tapswitch: names are answered at the gateway: put \"nameserver %s\" into its resolv.conf\n", res.DNS[0])
	}
	return nil
}

func leaveCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "leave NAME [NET]",
		Short:             "Take a joined namespace off the switch, or off one network",
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: completeContainers,
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := connect()
			if err != nil {
				return err
			}
			return joiner.Leave(c, args[0], strings.Join(args[1:], ""))
		},
	}
}
