package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"tapswitch/cmd/internal/api"
	"tapswitch/configs"
	"tapswitch/switch"
)

func statusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "status", Short: "Show the switch: what runs, with which configuration, and what it counted", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := connect()
			if err != nil {
				return err
			}
			var s api.Status
			if err := c.Do("GET", "/status", nil, &s); err != nil {
				return err
			}
			if asJSON {
				return printJSON(s)
			}
			printStatus(&s)
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func printStatus(s *api.Status) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	defer w.Flush()
	row := func(k, format string, a ...any) { fmt.Fprintf(w, "%s\t%s\n", k, fmt.Sprintf(format, a...)) }
	row("version", "%s", s.Version)
	row("process", "%d (worker %d), up %s", s.Pid, s.WorkerPid, (time.Duration(s.UptimeSec) * time.Second))
	row("socket", "%s", s.Socket)
	cfg := s.Config
	if cfg == "" {
		cfg = "defaults"
	}
	row("configuration", "%s", cfg)
	if s.ConfigError != "" {
		row("refused", "%s", s.ConfigError)
	}
	row("networks", "%d", s.Networks)
	row("containers", "%d", s.Containers)
	row("received by containers", "%d frames, %s", s.RxFrames, byteSize(s.RxBytes))
	row("sent by containers", "%d frames, %s", s.TxFrames, byteSize(s.TxBytes))
	var flows []string
	for _, k := range sortedKeys(s.Flows) {
		flows = append(flows, fmt.Sprintf("%s %d", k, s.Flows[k]))
	}
	row("flows", "%s", strings.Join(flows, ", "))
	row("sandbox", "%s", s.Sandbox)
	row("descriptors", "%d of %d", s.FDs, s.FDLimit)
	row("dns", "%d questions, %d local, %d forwarded to %s", s.DNS["queries"], s.DNS["local"], s.DNS["forwarded"], strings.Join(s.Upstreams, ", "))
	for _, k := range sortedKeys(s.Drops) {
		row("dropped "+k, "%d", s.Drops[k])
	}
}

func byteSize(n uint64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, i := float64(n), 0
	for v >= 1024 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}

func dropCommand() *cobra.Command {
	var asJSON, all bool
	cmd := &cobra.Command{
		Use: "drop", Aliases: []string{"drops"}, Short: "Show frames that were not delivered, by interface and reason", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if all {
				return printReasons(asJSON)
			}
			c, err := connect()
			if err != nil {
				return err
			}
			var list []*api.Container
			if err := c.Do("GET", "/containers", nil, &list); err != nil {
				return err
			}
			rows := []map[string]any{}
			w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
			fmt.Fprintln(w, "INTERFACE\tREASON\tFRAMES\tWHY")
			why := reasons()
			for _, x := range list {
				var v api.Container
				if c.Do("GET", "/containers/"+x.ID, nil, &v) != nil {
					continue
				}
				for _, n := range v.Networks {
					if n.Stats == nil {
						continue
					}
					for _, r := range sortedKeys(n.Stats.Drops) {
						name := v.Name + ":" + n.IfName
						rows = append(rows, map[string]any{"interface": name, "reason": r, "frames": n.Stats.Drops[r], "why": why[r].Why, "remedy": why[r].Remedy})
						fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", name, r, n.Stats.Drops[r], why[r].Why)
					}
				}
			}
			if asJSON {
				return printJSON(rows)
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	cmd.Flags().BoolVar(&all, "reasons", false, "explain every reason there is")
	return cmd
}

func reasons() map[string]vswitch.ReasonInfo {
	out := make(map[string]vswitch.ReasonInfo)
	for r := vswitch.Reason(1); r < vswitch.NumReasons; r++ {
		out[r.String()] = r.Info()
	}
	return out
}

func printReasons(asJSON bool) error {
	all := reasons()
	if asJSON {
		rows := []map[string]string{}
		for _, k := range sortedKeys(all) {
			rows = append(rows, map[string]string{"reason": k, "why": all[k].Why, "remedy": all[k].Remedy})
		}
		return printJSON(rows)
	}
	for _, k := range sortedKeys(all) {
		fmt.Printf("%-20s %s\n", k, all[k].Why)
		if all[k].Remedy != "" {
			fmt.Printf("%-20s -> %s\n", "", all[k].Remedy)
		}
	}
	return nil
}

func flowCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "flow", Aliases: []string{"flows"}, Short: "List flows through the gateways", Args: cobra.MaximumNArgs(1), ValidArgs: []string{"ls"},
		RunE: func(*cobra.Command, []string) error {
			c, err := connect()
			if err != nil {
				return err
			}
			var list []api.Flow
			if err := c.Do("GET", "/flows", nil, &list); err != nil {
				return err
			}
			if asJSON {
				return printJSON(list)
			}
			for _, f := range list {
				fmt.Printf("%s %s %s -> %s => %s -> %s  %s  tx %s rx %s  %.0fs\n", f.Container, f.Protocol, f.Local, f.Remote, f.HostLocal, f.HostPeer,
					f.State, byteSize(f.TxBytes), byteSize(f.RxBytes), f.AgeSec)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func fdbCommand() *cobra.Command {
	var asJSON, groups bool
	cmd := &cobra.Command{
		Use: "fdb", Short: "List which interface holds which MAC address", Args: cobra.NoArgs,
		Long: `List which interface holds which MAC address, or with --groups which has asked for which multicast group (IGMP, MLD). A
group that is not listed goes to everybody on its network, and so do those of the link, as mDNS's 224.0.0.251.`,
		RunE: func(*cobra.Command, []string) error {
			c, err := connect()
			if err != nil {
				return err
			}
			if groups {
				return showGroups(c, asJSON)
			}
			var list []api.FDBEntry
			if err := c.Do("GET", "/fdb", nil, &list); err != nil {
				return err
			}
			if asJSON {
				return printJSON(list)
			}
			w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
			fmt.Fprintln(w, "NETWORK\tMAC\tINTERFACE\tAGE")
			for _, x := range list {
				age := fmt.Sprintf("%ds", x.AgeSec)
				if x.Static {
					age = "static"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", x.Network, x.MAC, x.Interface, age)
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	cmd.Flags().BoolVar(&groups, "groups", false, "multicast groups and who has asked for them")
	return cmd
}

func configCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Check, show and begin a configuration", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	check := &cobra.Command{
		Use: "check FILE", Short: "Say what is wrong with a file; touch nothing", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := configs.Load(configs.Options{File: args[0]})
			if err != nil {
				return err
			}
			fmt.Printf("%s: %d networks, %d containers\n", args[0], len(c.Networks), len(c.Containers))
			return nil
		},
	}
	var asJSON bool
	var file string
	show := &cobra.Command{
		Use: "show", Short: "Print the configuration in force, with each value's origin", Args: cobra.NoArgs,
		Long: "Print the configuration of the switch that runs, or, without one or with -c, what \"up\" would take; with each value's origin.",
		RunE: func(*cobra.Command, []string) error {
			format := "yaml"
			if asJSON {
				format = "json"
			}
			if c, err := connect(); err == nil && file == "" {
				var both map[string]string
				if c.Do("GET", "/config", nil, &both) == nil {
					fmt.Print(both[format])
					return nil
				}
			}
			c, err := configs.Load(configs.Options{File: file})
			if err != nil {
				return err
			}
			b, err := configs.Show(c, format)
			if err != nil {
				return err
			}
			_, err = os.Stdout.Write(b)
			return err
		},
	}
	show.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	show.Flags().StringVarP(&file, "config", "c", "", "of `FILE`")
	initc := &cobra.Command{
		Use: "init [FILE]", Short: "Print a commented sample, or write it to FILE", Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				_, err := os.Stdout.Write(configs.Sample())
				return err
			}
			f, err := os.OpenFile(args[0], os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.Write(configs.Sample())
			return err
		},
	}
	cmd.AddCommand(check, show, initc)
	return cmd
}

func versionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := map[string]string{"version": Version, "api": api.Version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}
			if asJSON {
				return json.NewEncoder(os.Stdout).Encode(v)
			}
			fmt.Printf("tapswitch %s (API %s, %s, %s)\n", v["version"], v["api"], v["go"], v["platform"])
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}
