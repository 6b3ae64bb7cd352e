package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/client"
)

func networkCommand() *cobra.Command {
	var asJSON, quiet bool
	list := func(*cobra.Command, []string) error { return listNetworks(asJSON, quiet) }
	cmd := &cobra.Command{Use: "network", Aliases: []string{"networks"}, Short: "Make, list, show and remove networks", Args: cobra.NoArgs, RunE: list}
	ls := &cobra.Command{Use: "ls", Aliases: []string{"list"}, Short: "List networks", Args: cobra.NoArgs, RunE: list}
	for _, x := range []*cobra.Command{cmd, ls} {
		x.Flags().BoolVar(&asJSON, "json", false, "as JSON")
		x.Flags().BoolVarP(&quiet, "quiet", "q", false, "ids only")
	}
	cmd.AddCommand(ls, networkCreateCommand(), networkInspectCommand(), networkExistsCommand(), networkRemoveCommand(), networkPruneCommand(),
		networkConnectCommand(), networkDisconnectCommand())
	return cmd
}

func listNetworks(asJSON, quiet bool) error {
	c, err := connect()
	if err != nil {
		return err
	}
	var l []*api.Network
	if err := c.Do("GET", "/networks", nil, &l); err != nil {
		return err
	}
	switch {
	case asJSON:
		return printJSON(l)
	case quiet:
		for _, n := range l {
			fmt.Println(n.ID[:12])
		}
		return nil
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "ID\tNAME\tDRIVER\tSUBNETS\tCONTAINERS")
	for _, n := range l {
		var subs []string
		for _, s := range n.Subnets {
			subs = append(subs, s.Subnet.String())
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\n", n.ID[:12], n.Name, n.Driver, strings.Join(subs, ","), len(n.Containers))
	}
	return w.Flush()
}

func networkCreateCommand() *cobra.Command {
	var r api.NetworkCreate
	var labels, options, aux []string
	var attachable, ipv4 bool
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Make a network", Args: cobra.ExactArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		Long: `Make a network: a bridge with an IPv4 subnet and, with --ipv6 or an IPv6 subnet, an IPv6 one. What is left out is
chosen as Docker does: the first default pool that is free, the subnet's first address as the gateway. The network is
there again after a restart of the switch; what it is called is printed as its id.`,
		Example: `  tapswitch network create --subnet 10.1.1.0/24 --gateway 10.1.1.254 red
  tapswitch network create --internal backend
  tapswitch network create --ipv6 -o com.docker.network.driver.mtu=9000 fast`,
		RunE: func(_ *cobra.Command, args []string) error {
			r.Name, r.Origin = args[0], "cli"
			var err error
			if r.Labels, err = pairs("--label", labels); err != nil {
				return err
			}
			if r.Options, err = pairs("--opt", options); err != nil {
				return err
			}
			if !ipv4 {
				r.Options["com.docker.network.enable_ipv4"] = "false"
			}
			if r.Aux, err = pairs("--aux-address", aux); err != nil {
				return err
			}
			c, err := connect()
			if err != nil {
				return err
			}
			var n api.Network
			if err := c.Do("POST", "/networks", r, &n); err != nil {
				return err
			}
			fmt.Println(n.ID)
			return nil
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&r.Driver, "driver", "d", "bridge", "`driver`; there is bridge")
	fl.StringArrayVar(&r.Subnets, "subnet", nil, "`CIDR` of the network; once for IPv4, once for IPv6")
	fl.StringArrayVar(&r.Gateways, "gateway", nil, "`address` of the gateway in a subnet")
	fl.StringArrayVar(&r.Ranges, "ip-range", nil, "`CIDR` from which addresses are chosen, a part of a subnet")
	fl.StringArrayVar(&aux, "aux-address", nil, "`NAME=ADDRESS` to keep for others; DefaultGatewayIPv4=ADDRESS is the containers' default route")
	fl.StringVar(&r.Egress, "egress", "", "what its containers may reach outside: all, internet, none, or a `POLICY`")
	fl.BoolVar(&r.IPv6, "ipv6", false, "an IPv6 subnet, too, chosen if none is named")
	fl.BoolVar(&ipv4, "ipv4", true, "IPv4; =false: IPv6 alone")
	fl.BoolVar(&r.Internal, "internal", false, "nothing is routed off the network")
	fl.BoolVar(&attachable, "attachable", false, "taken for Docker's sake: every network is")
	fl.StringArrayVar(&labels, "label", nil, "`KEY=VALUE` to find it by")
	fl.StringArrayVarP(&options, "opt", "o", nil, "Docker's `com.docker.network.OPTION=VALUE`: bridge.enable_icc, bridge.enable_ip_masquerade, bridge.gateway_mode_ipv4 and _ipv6 (nat, routed, nat-unprotected, isolated), bridge.host_binding_ipv4, bridge.inhibit_ipv4, driver.mtu, container_iface_prefix, host_ipv4 and host_ipv6, enable_ipv4; and our own tapswitch.multicast_snooping, tapswitch.mirror, tapswitch.mirror_ports, tapswitch.host_interface")
	return cmd
}

// pairs reads KEY=VALUE, or KEY alone.
func pairs(flag string, list []string) (map[string]string, error) {
	out := make(map[string]string)
	for _, kv := range list {
		k, v, _ := strings.Cut(kv, "=")
		if k == "" {
			return nil, usageError{fmt.Errorf("%s %q: write KEY=VALUE", flag, kv)}
		}
		out[k] = v
	}
	return out, nil
}

func networkInspectCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "inspect NAME...", Short: "Show networks as a JSON array", Args: cobra.MinimumNArgs(1), ValidArgsFunction: completeNetworks,
		Long: `Show networks as a JSON array in podman's shape; with --format docker in Docker's, or by a Go template over the keys
of either, for instance '{{range .subnets}}{{.subnet}}{{end}}' or '{{(index .IPAM.Config 0).Subnet}}'.`,
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := connect()
			if err != nil {
				return err
			}
			return inspect(args, format, func(name string) (any, any, error) {
				var n api.Network
				err := c.Do("GET", "/networks/"+client.Escape(name), nil, &n)
				return &n, asDockerNetwork(&n), err
			})
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "json, docker, or a Go `template`")
	return cmd
}

func networkExistsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "exists NAME", Short: "Exit 0 if there is such a network, 1 if not", Args: cobra.ExactArgs(1), ValidArgsFunction: completeNetworks,
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := connect()
			if err != nil {
				return err
			}
			var n api.Network
			err = c.Do("GET", "/networks/"+client.Escape(args[0]), nil, &n)
			var e *api.Error
			if errors.As(err, &e) && e.Code == api.NotFound {
				os.Exit(1)
			}
			return err
		},
	}
}

func networkRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "rm NAME...", Aliases: []string{"remove"}, Short: "Remove networks that nobody uses", Args: cobra.MinimumNArgs(1), ValidArgsFunction: completeNetworks,
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := connect()
			if err != nil {
				return err
			}
			var last error
			for _, a := range args {
				if err := c.Do("DELETE", "/networks/"+client.Escape(a), nil, nil); err != nil {
					if last != nil {
						report(nil, last)
					}
					last = err
					continue
				}
				fmt.Println(a)
			}
			return last
		},
	}
}

func networkPruneCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "prune", Short: "Remove the networks made by command that nobody uses", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := connect()
			if err != nil {
				return err
			}
			var p api.Pruned
			if err := c.Do("POST", "/networks/prune", nil, &p); err != nil {
				return err
			}
			for _, n := range p.Networks {
				fmt.Println(n)
			}
			return nil
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "taken for Docker's sake: nothing is asked")
	return cmd
}

func networkConnectCommand() *cobra.Command {
	var r api.NetworkConnect
	var driver []string
	cmd := &cobra.Command{
		Use: "connect NETWORK CONTAINER", Short: "Put a running container on one more network", Args: cobra.ExactArgs(2), ValidArgsFunction: completeNetworkContainer,
		Long: `Put a running container on one more network: it gets an interface (eth1, ...) with an address there. Its default route
and published ports stay where they are, unless it had none, or --gw-priority is higher than that network's.`,
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := connect()
			if err != nil {
				return err
			}
			r.Container = args[1]
			if r.Options, err = pairs("--driver-opt", driver); err != nil {
				return err
			}
			return c.Do("POST", "/networks/"+client.Escape(args[0])+"/connect", r, nil)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&r.IP, "ip", "", "IPv4 `address` there")
	fl.StringVar(&r.IP6, "ip6", "", "IPv6 `address` there")
	fl.StringVar(&r.MAC, "mac-address", "", "`MAC` of the interface")
	fl.StringArrayVar(&r.Aliases, "alias", nil, "further DNS `name` there")
	fl.StringVar(&r.IfName, "ifname", "", "`name` of the interface")
	fl.IntVar(&r.GwPriority, "gw-priority", 0, "`number`: the network with the highest has the default route")
	fl.StringArrayVar(&driver, "driver-opt", nil, "Docker's `com.docker.network.endpoint.OPTION=VALUE`: ifname, sysctls")
	return cmd
}

func networkDisconnectCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "disconnect NETWORK CONTAINER", Short: "Take a running container off a network", Args: cobra.ExactArgs(2), ValidArgsFunction: completeNetworkContainer,
		Long: `Take a running container off a network: its interface there goes. If that had the default route, the first other network
that is not internal gets it, and the published ports with it.`,
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := connect()
			if err != nil {
				return err
			}
			return c.Do("POST", "/networks/"+client.Escape(args[0])+"/disconnect", api.NetworkConnect{Container: args[1]}, nil)
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "taken for Docker's sake: nothing is in the way")
	return cmd
}

// completeNetworkContainer offers a network, then a container.
func completeNetworkContainer(cmd *cobra.Command, args []string, text string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return completeNetworks(cmd, args, text)
	}
	return completeContainers(cmd, args[1:], text)
}
