package main

import (
	"fmt"
	"os"
	"text/tabwriter"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/client"
)

// showGroups is `fdb --groups`.
func showGroups(c *client.Client, asJSON bool) error {
	var list []api.GroupMember
	if err := c.Do("GET", "/groups", nil, &list); err != nil {
		return err
	}
	if asJSON {
		return printJSON(list)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "NETWORK\tGROUP\tINTERFACE\tAGE")
	for _, x := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%ds\n", x.Network, x.Group, x.Interface, x.AgeSec)
	}
	return w.Flush()
}
