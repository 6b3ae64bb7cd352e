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
	row("threads", "%d", s.Threads)
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
