package main

import (
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"tapswitch/cmd/internal/openapi"
)

func apiCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "api", Short: "List the requests of the control API", Args: cobra.NoArgs,
		Long: `List the requests of the control API; with --json, describe it as OpenAPI 3.1, as GET /v1/openapi.json does. It needs no switch.

  curl --unix-socket $XDG_RUNTIME_DIR/tapswitch/tapswitch.sock http://x/v1/status`,
		RunE: func(*cobra.Command, []string) error {
			if asJSON {
				doc, err := openapi.Document(Version, false)
				if err != nil {
					return err
				}
				fmt.Println(string(doc))
				return nil
			}
			w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
			for _, o := range openapi.Operations {
				method, path, _ := strings.Cut(o.Pattern, " ")
				for i, q := range o.Query {
					path += string("?&"[min(i, 1)]) + q.Name
				}
				fmt.Fprintf(w, "%s\t%s\t%s\n", method, path, o.Summary)
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "the whole description, as OpenAPI 3.1")
	return cmd
}
