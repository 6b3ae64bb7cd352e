package main

import (
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/client"
	"tapswitch/switch"
)

// dropped is a row of `drop`.
type dropped struct {
	Interface string `json:"interface"`
	Reason    string `json:"reason"`
	Frames    uint64 `json:"frames"`
	Why       string `json:"why"`
	Remedy    string `json:"remedy"`
}

func dropCommand() *cobra.Command {
	var asJSON, all, watch bool
	cmd := &cobra.Command{
		Use: "drop", Aliases: []string{"drops"}, Short: "Show frames that were not delivered, by interface and reason", Args: cobra.NoArgs,
		Long: "Show frames that were not delivered, by interface and reason, with a sentence about each and what usually helps.\n`tapswitch why` says who wanted to go where.",
		RunE: func(*cobra.Command, []string) error {
			if all {
				return printReasons(asJSON)
			}
			c, err := connect()
			if err != nil {
				return err
			}
			if watch {
				last := make(map[[2]string]uint64)
				first := true
				return watching(time.Second, func(w io.Writer) error {
					rows, err := drops(c)
					if err != nil {
						return err
					}
					if asJSON {
						return writeJSON(w, rows)
					}
					defer func() { first = false }()
					return printDrops(w, rows, func(r *dropped) string {
						k := [2]string{r.Interface, r.Reason}
						n := r.Frames - last[k]
						if last[k] = r.Frames; n == 0 || first {
							return ""
						}
						return fmt.Sprintf("+%d", n)
					})
				})
			}
			rows, err := drops(c)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(rows)
			}
			return printDrops(os.Stdout, rows, nil)
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&asJSON, "json", false, "as JSON")
	fl.BoolVar(&all, "reasons", false, "explain every reason there is")
	fl.BoolVarP(&watch, "watch", "w", false, "show it again each second, with what has come since")
	return listing(cmd)
}

// drops asks for the counters of all interfaces.
func drops(c *client.Client) ([]dropped, error) {
	var list []*api.Container
	if err := c.Do("GET", "/containers", nil, &list); err != nil {
		return nil, err
	}
	rows := []dropped{}
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
				rows = append(rows, dropped{v.Name + ":" + n.IfName, r, n.Stats.Drops[r], why[r].Why, why[r].Remedy})
			}
		}
	}
	return rows, nil
}

// printDrops prints a table; since is what is new in a row, where that is known.
func printDrops(out io.Writer, rows []dropped, since func(*dropped) string) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	head := "INTERFACE\tREASON\tFRAMES\t"
	if since != nil {
		head += "NEW\t"
	}
	fmt.Fprintln(w, head+"WHY")
	for i := range rows {
		r := &rows[i]
		fmt.Fprintf(w, "%s\t%s\t%d\t", r.Interface, r.Reason, r.Frames)
		if since != nil {
			fmt.Fprintf(w, "%s\t", since(r))
		}
		fmt.Fprintln(w, r.Why)
		if r.Remedy != "" {
			blank := "\t\t\t"
			if since != nil {
				blank += "\t"
			}
			fmt.Fprintln(w, blank+"-> "+r.Remedy)
		}
	}
	return w.Flush()
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
