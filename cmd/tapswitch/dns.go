package main

import (
	"fmt"
	"net/url"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"tapswitch/cmd/internal/api"
)

func dnsCommand() *cobra.Command {
	var asJSON, failed bool
	var container string
	var last int
	cmd := &cobra.Command{
		Use: "dns", Short: "List questions to our DNS: who asked what, and who answered", Args: cobra.NoArgs,
		Long: `List the latest questions to the gateways' DNS: who asked, what, who answered (local: our own names; cache; an upstream; policy:
the egress policy does not hold the name), how and how quickly; and what each upstream was asked.`,
		RunE: func(*cobra.Command, []string) error {
			c, err := connect()
			if err != nil {
				return err
			}
			q := url.Values{}
			if container != "" {
				q.Set("container", container)
			}
			if last > 0 && !failed {
				q.Set("last", fmt.Sprint(last))
			}
			var d api.DNS
			if err := c.Do("GET", "/dns?"+q.Encode(), nil, &d); err != nil {
				return err
			}
			if failed {
				kept := []api.Question{}
				for _, x := range d.Questions {
					if x.Rcode != "NOERROR" {
						kept = append(kept, x)
					}
				}
				if d.Questions = kept; last > 0 {
					d.Questions = kept[max(0, len(kept)-last):]
				}
			}
			if asJSON {
				return printJSON(d)
			}
			return printDNS(&d)
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&asJSON, "json", false, "as JSON")
	fl.BoolVar(&failed, "failed", false, "only questions that were not answered well")
	fl.StringVar(&container, "container", "", "only those of container `NAME`")
	fl.IntVarP(&last, "last", "n", 0, "only the latest `N`")
	_ = cmd.RegisterFlagCompletionFunc("container", completeContainers)
	return listing(cmd)
}

func printDNS(d *api.DNS) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "TIME\tWHO\tTYPE\tNAME\tRCODE\tBY\tTOOK")
	for i := range d.Questions {
		q := &d.Questions[i]
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%.1f ms\n", clock(q.Time), or(q.Container, q.Client), q.Type, q.Name, q.Rcode, answeredBy(q), q.TookMs)
	}
	if err := w.Flush(); err != nil || len(d.Upstreams) == 0 {
		return err
	}
	fmt.Println()
	fmt.Fprintln(w, "UPSTREAM\tASKED\tANSWERED\tFAILED\tTIMEOUTS\tMEAN")
	for _, u := range d.Upstreams {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%.1f ms\n", u.Address, u.Asked, u.Answered, u.Failed, u.Timeouts, u.MeanMs)
	}
	return w.Flush()
}

// answeredBy is who answered a question, in a word or two.
func answeredBy(q *api.Question) string {
	switch {
	case q.By == "upstream":
		return q.Upstream
	case q.TimedOut:
		return "nobody (time-out)"
	}
	return q.By
}
