package main

import (
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"tapswitch/cmd/internal/api"
)

func neighCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "neigh", Aliases: []string{"neighbour", "neighbours", "neighbor", "neighbors"}, Short: "List who is where on which network, and from what that is known", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := connect()
			if err != nil {
				return err
			}
			var list []api.Neighbour
			if err := c.Do("GET", "/neighbours", nil, &list); err != nil {
				return err
			}
			if asJSON {
				return printJSON(list)
			}
			w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
			fmt.Fprintln(w, "NETWORK\tADDRESS\tMAC\tINTERFACE\tFROM\tLAST SEEN")
			for _, x := range list {
				seen := fmt.Sprintf("%d s ago", x.AgeSec)
				if x.Origin == "gateway" {
					seen = "-"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", x.Network, or(x.Address, "-"), x.MAC, x.Interface, x.Origin, seen)
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return listing(cmd)
}

func fdbCommand() *cobra.Command {
	var asJSON, groups bool
	cmd := &cobra.Command{
		Use: "fdb", Aliases: []string{"fdbs"}, Short: "List which interface holds which MAC address", Args: cobra.NoArgs,
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
	return listing(cmd)
}
