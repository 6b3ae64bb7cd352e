package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/client"
)

func flowCommand() *cobra.Command {
	var f api.FlowFilter
	var asJSON, watch bool
	list := func(*cobra.Command, []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		show := func(w io.Writer) error {
			flows, err := askFlows(c, &f)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(w, flows)
			}
			for i := range flows {
				fmt.Fprintln(w, flowLine(&flows[i]))
			}
			return nil
		}
		if watch {
			return watching(time.Second, show)
		}
		return show(os.Stdout)
	}
	cmd := &cobra.Command{
		Use: "flow", Aliases: []string{"flows"}, Short: "List flows through the gateways, or end some", Args: cobra.NoArgs, RunE: list,
		Long: `List flows through the gateways, a line each: who, as the container sees it => as the host sees it (or the other container),
then its state, what was sent and received, how old it is, and of TCP the round trips (to the container, to the peer) and
how many segments were sent again (to the container, to the peer). Frames between containers of one network, which no
rule asks about, have no flow.`,
		Example: `  tapswitch flow --container web --proto tcp
  tapswitch flow ls --remote 192.0.2.0/24 --watch
  tapswitch flow kill --container web --remote :5432`,
	}
	kill := &cobra.Command{
		Use: "kill [flags]", Short: "End flows; a TCP connection's both sides see a reset", Args: cobra.NoArgs,
		Long: `End the flows for which all conditions hold; their number is printed. Both sides of a TCP connection see a reset: at once, or,
where containers talk to each other, with the next segment. Nothing keeps them from beginning anew: rules do.`,
		RunE: func(*cobra.Command, []string) error {
			if f == (api.FlowFilter{}) {
				return usageError{errors.New("which flows are to end? write --container, --proto, --state or --remote, or --all")}
			}
			c, err := connect()
			if err != nil {
				return err
			}
			var k api.Killed
			if err := c.Do("POST", "/flows/kill", f, &k); err != nil {
				return err
			}
			if asJSON {
				return printJSON(k)
			}
			fmt.Println(k.Flows)
			return nil
		},
	}
	conditions := func(c *cobra.Command) *pflag.FlagSet {
		fl := c.Flags()
		fl.StringVar(&f.Container, "container", "", "of `CONTAINER[:IF]`")
		fl.StringVar(&f.Proto, "proto", "", "`tcp`, udp or icmp")
		fl.StringVar(&f.State, "state", "", "in `STATE`: connecting, established, closing, assured, unreplied, ...")
		fl.StringVar(&f.Remote, "remote", "", "to or from `ADDRESS[:PORT]`, CIDR or :PORT, as either side has it")
		fl.BoolVar(&asJSON, "json", false, "as JSON")
		_ = c.RegisterFlagCompletionFunc("container", completeContainers)
		return fl
	}
	conditions(cmd).BoolVarP(&watch, "watch", "w", false, "show it again each second")
	conditions(kill).BoolVar(&f.All, "all", false, "all of them, where there is no other condition")
	listing(cmd).AddCommand(kill)
	return cmd
}

func askFlows(c *client.Client, f *api.FlowFilter) ([]api.Flow, error) {
	q := url.Values{}
	for k, v := range map[string]string{"container": f.Container, "proto": f.Proto, "state": f.State, "remote": f.Remote} {
		if v != "" {
			q.Set(k, v)
		}
	}
	var list []api.Flow
	err := c.Do("GET", "/flows?"+q.Encode(), nil, &list)
	return list, err
}

// flowLine is a flow on a line: side => side, and what is known of it.
func flowLine(f *api.Flow) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s, %s, sent %s in %d, received %s in %d, %.0f s", f.Container, flowSides(f), f.State, byteSize(f.TxBytes), f.TxPackets, byteSize(f.RxBytes), f.RxPackets, f.AgeSec)
	if f.RTTMs > 0 || f.RTTHostMs > 0 {
		fmt.Fprintf(&b, ", rtt %.2f+%.2f ms", f.RTTMs, f.RTTHostMs)
	}
	if f.Retrans > 0 || f.RetransHost > 0 {
		fmt.Fprintf(&b, ", again %d+%d", f.Retrans, f.RetransHost)
	}
	return b.String()
}

// flowSides is a -> b => c -> d, from whoever has opened it.
func flowSides(f *api.Flow) string {
	if f.Inbound {
		return fmt.Sprintf("%s %s -> %s => %s -> %s", f.Protocol, f.HostPeer, f.HostLocal, f.Remote, f.Local)
	}
	return fmt.Sprintf("%s %s -> %s => %s -> %s", f.Protocol, f.Local, f.Remote, f.HostLocal, f.HostPeer)
}
