package main

import (
	"github.com/spf13/cobra"
	"tapswitch/cmd/internal/demo"
)

func demoCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show it all: two bridges, three containers, real traffic, a table",
		Long: `Build a host, a router and an outside in namespaces of its own, run the switch there without a single capability,
with two bridges and three containers, send real traffic (ICMP, TCP, UDP, DNS, published ports, what must not pass),
and print what was seen beside what should be. It needs nothing but user namespaces and /dev/net/tun, and leaves
nothing behind. The exit code is 0 only if every check is as expected.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := checkTun(); err != nil {
				return err
			}
			code, err := demo.Run(asJSON)
			if err != nil {
				return err
			}
			if code != 0 {
				return exitError(code)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as a JSON array of {from,to,check,expected,seen,ok}")
	return cmd
}

// demoProbeCommand is what the demo runs inside its containers.
func demoProbeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "demo-probe", Hidden: true, DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			if code := demo.Probe(args); code != 0 {
				return exitError(code)
			}
			return nil
		},
	}
}
