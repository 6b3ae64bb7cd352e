package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/client"
	"tapswitch/cmd/internal/engine"
)

const partiesHelp = `A side is an address or CIDR, container:NAME, network:NAME, outside, host or any; ! in front means all others. A bare
name is a container's or network's that is there. Addresses and ports are the containers' own, behind published ports.`

func ruleCommand() *cobra.Command {
	var asJSON, all bool
	list := func(*cobra.Command, []string) error { return listRules("/rules", all, asJSON) }
	cmd := &cobra.Command{Use: "rule", Aliases: []string{"rules"}, Short: "Rules: who may open flows to whom", Args: cobra.NoArgs, RunE: list,
		Long: `Rules decide who may open flows to whom, before all else: the first that matches. Answers pass with their flow. Without
one that matches, the networks' isolation, icc, links and egress policies decide. A change holds at once, for flows that
are open, too, and lasts over a restart.

` + partiesHelp}
	ls := &cobra.Command{Use: "ls", Aliases: []string{"list"}, Short: "List the rules in their order, with what each has met", Args: cobra.NoArgs, RunE: list}
	for _, x := range []*cobra.Command{cmd, ls} {
		x.Flags().BoolVar(&asJSON, "json", false, "as JSON")
		x.Flags().BoolVarP(&all, "all", "a", false, "routes, and what is built in, too")
	}
	cmd.AddCommand(ls, ruleAddCommand(), ruleRemoveCommand("rule"), ruleTestCommand())
	return cmd
}

func ruleAddCommand() *cobra.Command {
	var r api.RuleAdd
	var direction string
	cmd := &cobra.Command{
		Use: "add --action ACTION [flags]", Short: "Put a rule at the end, or at a place", Args: cobra.NoArgs,
		Long: "Put a rule at the end, or at a place. Its number is printed, by which `rule rm` takes it away.\n\n" + partiesHelp,
		Example: `  tapswitch rule add --from '!8.8.8.8' --dir in --action drop     # only 8.8.8.8 may reach the published ports
  tapswitch rule add --from web --to 10.0.0.0/8 --action reject
  tapswitch rule add --at 1 --from network:red --to db --proto tcp --port 5432 --action accept`,
		RunE: func(*cobra.Command, []string) error {
			if r.Action == "" {
				return usageError{errors.New("--action: write accept, drop or reject")}
			}
			r.Direction, r.Ports = direction, splitPorts(r.Ports)
			return addRule(r)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&r.From, "from", "", "`who` opens the flow (default: any)")
	fl.StringVar(&r.To, "to", "", "to `whom` (default: any)")
	fl.StringVar(&direction, "dir", "", "`in` (from outside or the host), out, local (from container to container)")
	fl.StringVar(&r.Proto, "proto", "", "`tcp`, udp or icmp (default: any)")
	fl.StringArrayVar(&r.Ports, "port", nil, "the destination's `PORT[-PORT][,...]` (default: all)")
	fl.StringVar(&r.Action, "action", "", "`accept`, drop (silence) or reject (told at once)")
	fl.IntVar(&r.At, "at", 0, "`place` among the rules, from 1 (default: the end)")
	fl.StringVar(&r.Comment, "comment", "", "`note` for people")
	words(cmd, "dir", "in", "out", "local")
	words(cmd, "proto", "tcp", "udp", "icmp")
	words(cmd, "action", "accept", "drop", "reject")
	return cmd
}

// words completes a flag by one of a few words.
func words(cmd *cobra.Command, flag string, list ...string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp))
}

// splitPorts takes commas apart.
func splitPorts(list []string) (out []string) {
	for _, l := range list {
		for p := range strings.SplitSeq(l, ",") {
			out = append(out, strings.TrimSpace(p))
		}
	}
	return out
}

func addRule(r api.RuleAdd) error {
	r.Origin = "cli"
	c, err := connect()
	if err != nil {
		return err
	}
	var made api.Rule
	if err := c.Do("POST", "/rules", r, &made); err != nil {
		return err
	}
	fmt.Println(made.ID)
	return nil
}

func ruleRemoveCommand(what string) *cobra.Command {
	return &cobra.Command{
		Use: "rm ID...", Aliases: []string{"remove", "del"}, Short: "Take " + what + "s away by their numbers", Args: cobra.MinimumNArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := connect()
			if err != nil {
				return err
			}
			for _, a := range args {
				if err := c.Do("DELETE", "/"+what+"s/"+client.Escape(a), nil, nil); err != nil {
					return err
				}
				fmt.Println(a)
			}
			return nil
		},
	}
}

func listRules(path string, all, asJSON bool) error {
	c, err := connect()
	if err != nil {
		return err
	}
	if all {
		path += "?all=1"
	}
	var l []api.Rule
	if err := c.Do("GET", path, nil, &l); err != nil {
		return err
	}
	if asJSON {
		return printJSON(l)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "AT\tID\tPKTS\tBYTES\tACTION\tPROTO\tDIR\tFROM\tTO\tPORTS\tCOMMENT")
	for _, r := range l {
		at := "-"
		if r.Position > 0 {
			at = strconv.Itoa(r.Position)
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", at, r.ID, short(r.Packets), short(r.Bytes), r.Action, or(r.Proto, "any"), or(r.Direction, "any"),
			r.From, r.To, or(strings.Join(r.Ports, ","), "any"), r.Comment)
	}
	return w.Flush()
}

// short writes a number as iptables -nvL does: 10K, 25M.
func short(n uint64) string {
	for _, u := range []string{"", "K", "M", "G", "T"} {
		if n < 100_000 || u == "T" {
			return strconv.FormatUint(n, 10) + u
		}
		n /= 1000
	}
	return ""
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func ruleTestCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "test FROM TO[:PORT][/PROTO]", Short: "Say what the rules make of a flow that is not opened", Args: cobra.ExactArgs(2), ValidArgsFunction: completeContainers,
		Long: "Say what becomes of the first packet of a flow from a container, and by which rule. It exits 0 if the packet is accepted,\n1 if not. `trace` shows each step.",
		RunE: func(_ *cobra.Command, args []string) error {
			t, err := askTrace(args[0], args[1])
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(t)
			} else {
				fmt.Println(verdictLine(t))
			}
			if err == nil && t.Verdict != "accept" {
				return exitError(exitFailed)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func askTrace(from, to string) (*api.Trace, error) {
	host, port, proto, err := engine.ParseDestination(to)
	if err != nil {
		return nil, usageError{err}
	}
	c, err := connect()
	if err != nil {
		return nil, err
	}
	var t api.Trace
	err = c.Do("POST", "/trace", api.TraceRequest{From: from, To: host, Port: port, Proto: proto}, &t)
	return &t, err
}

// verdictLine is the end of a trace in one line.
func verdictLine(t *api.Trace) string {
	var b strings.Builder
	b.WriteString(t.Verdict)
	if t.Reaches != "" {
		b.WriteString(": reaches " + t.Reaches)
	}
	if t.Reason != "" {
		b.WriteString(": " + t.Reason)
	}
	if t.Rule >= 100 {
		fmt.Fprintf(&b, " (rule %d)", t.Rule)
	}
	return b.String()
}

func routeCommand() *cobra.Command {
	var asJSON bool
	list := func(*cobra.Command, []string) error { return listRules("/routes", false, asJSON) }
	cmd := &cobra.Command{Use: "route", Aliases: []string{"routes"}, Short: "Routes: ways from one network to another", Args: cobra.NoArgs, RunE: list,
		Long: `Networks are apart. A route lets the containers of one open flows to those of another, under their own addresses: to all
of it, or to some ports. The other way needs a route of its own; answers pass.`}
	ls := &cobra.Command{Use: "ls", Aliases: []string{"list"}, Short: "List the routes, with what has used each", Args: cobra.NoArgs, RunE: list}
	for _, x := range []*cobra.Command{cmd, ls} {
		x.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	}
	r := api.RuleAdd{Action: "route"}
	add := &cobra.Command{Use: "add --from NETWORK --to NETWORK [flags]", Short: "Open a way from one network to another", Args: cobra.NoArgs,
		Example: "  tapswitch route add --from web --to db --proto tcp --port 5432",
		RunE:    func(*cobra.Command, []string) error { r.Ports = splitPorts(r.Ports); return addRule(r) }}
	fl := add.Flags()
	fl.StringVar(&r.From, "from", "", "the `network` that opens flows")
	fl.StringVar(&r.To, "to", "", "the `network` that is reached")
	fl.StringVar(&r.Proto, "proto", "", "`tcp`, udp or icmp (default: any)")
	fl.StringArrayVar(&r.Ports, "port", nil, "the destination's `PORT[-PORT][,...]` (default: all)")
	fl.StringVar(&r.Comment, "comment", "", "`note` for people")
	for _, f := range []string{"from", "to"} {
		_ = add.MarkFlagRequired(f)
		_ = add.RegisterFlagCompletionFunc(f, completeNetworks)
	}
	words(add, "proto", "tcp", "udp", "icmp")
	cmd.AddCommand(ls, add, ruleRemoveCommand("route"))
	return cmd
}

func egressCommand() *cobra.Command {
	var asJSON bool
	list := func(*cobra.Command, []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		var l []api.Egress
		if err := c.Do("GET", "/egress", nil, &l); err != nil {
			return err
		}
		if asJSON {
			return printJSON(l)
		}
		w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
		fmt.Fprintln(w, "NAME\tALLOW\tUSED BY")
		for _, e := range l {
			fmt.Fprintf(w, "%s\t%s\t%s\n", e.Name, strings.Join(e.Allow, " "), strings.Join(e.Users, " "))
		}
		return w.Flush()
	}
	cmd := &cobra.Command{Use: "egress", Short: "Egress policies: what may be reached outside", Args: cobra.NoArgs, RunE: list,
		Long: `An egress policy is an allow-list for what containers reach outside; all else is rejected at once. A container or network
takes one by --egress NAME. There are also all, internet (public addresses only: no private ranges, not the host) and none.

An entry is HOST[:PORT[-PORT]][/PROTO]: an address, a CIDR, a name, or *.NAME for all names below it. Names that are not on
the list are refused by our DNS. An address is open for a container that our DNS has told it under an allowed name, while
that answer lives; flows that are open go on.`}
	ls := &cobra.Command{Use: "ls", Aliases: []string{"list"}, Short: "List the policies", Args: cobra.NoArgs, RunE: list}
	for _, x := range []*cobra.Command{cmd, ls} {
		x.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	}
	add := &cobra.Command{Use: "add NAME [ENTRY...]", Aliases: []string{"set"}, Short: "Make a policy, or replace one", Args: cobra.MinimumNArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		Example: "  tapswitch egress add updates 'deb.debian.org:80' '*.debian.org:443' 192.0.2.0/24",
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := connect()
			if err != nil {
				return err
			}
			return c.Do("POST", "/egress", api.Egress{Name: args[0], Allow: args[1:], Origin: "cli"}, nil)
		}}
	rm := &cobra.Command{Use: "rm NAME...", Aliases: []string{"remove"}, Short: "Remove policies that nobody uses", Args: cobra.MinimumNArgs(1), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := connect()
			if err != nil {
				return err
			}
			for _, a := range args {
				if err := c.Do("DELETE", "/egress/"+client.Escape(a), nil, nil); err != nil {
					return err
				}
				fmt.Println(a)
			}
			return nil
		}}
	cmd.AddCommand(ls, add, rm)
	return cmd
}
