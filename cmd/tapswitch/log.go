package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"tapswitch/cmd/internal/api"
)

func logCommand() *cobra.Command {
	var asJSON bool
	tell := func(method string, in any) error {
		c, err := connect()
		if err != nil {
			return err
		}
		var l api.Log
		if err := c.Do(method, "/log", in, &l); err != nil {
			return err
		}
		if asJSON {
			return printJSON(l)
		}
		fmt.Printf("level %s, format %s\n", l.Level, l.Format)
		return nil
	}
	cmd := &cobra.Command{
		Use: "log", Short: "Show or change what the switch logs", Args: cobra.NoArgs,
		Long: `Show or change what the switch logs to its standard error (behind: to switch.log beside the control socket). For the output of
containers there is "tapswitch logs".`,
		RunE: func(*cobra.Command, []string) error { return tell("GET", nil) },
	}
	level := &cobra.Command{
		Use: "level [debug|info|warn|error]", Short: "Show the level, or change it while the switch runs", Args: cobra.MaximumNArgs(1),
		Long:      "Show the level, or change it while the switch runs: until the next start, or a configuration with another level.",
		ValidArgs: []string{"debug", "info", "warn", "error"},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return tell("GET", nil)
			}
			return tell("PUT", api.Log{Level: args[0]})
		},
	}
	for _, x := range []*cobra.Command{cmd, level} {
		x.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	}
	cmd.AddCommand(level)
	return cmd
}
