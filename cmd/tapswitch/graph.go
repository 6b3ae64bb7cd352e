package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"tapswitch/cmd/internal/graph"
)

func graphCommand() *cobra.Command {
	var format string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "graph", Short: "Draw networks, containers, published ports, links, routes and rules", Args: cobra.NoArgs,
		Example: `  tapswitch graph --format svg >switch.svg
  tapswitch graph --format dot | dot -Tpng >switch.png
  tapswitch graph                                    # Mermaid, for Markdown`,
		RunE: func(*cobra.Command, []string) error {
			if !slices.Contains(graph.Formats, format) {
				return usageError{fmt.Errorf("--format: %q is none; write %s", format, strings.Join(graph.Formats, ", "))}
			}
			c, err := connect()
			if err != nil {
				return err
			}
			var g graph.Graph
			for _, x := range []struct {
				path string
				into any
			}{{"/networks", &g.Networks}, {"/containers", &g.Containers}, {"/rules", &g.Rules}, {"/routes", &g.Routes}} {
				if err := c.Do("GET", x.path, nil, x.into); err != nil {
					return err
				}
			}
			if asJSON {
				return printJSON(map[string]any{"networks": g.Networks, "containers": g.Containers, "rules": g.Rules, "routes": g.Routes})
			}
			return g.Write(os.Stdout, format)
		},
	}
	cmd.Flags().StringVar(&format, "format", "mermaid", "`mermaid`, dot or svg")
	cmd.Flags().BoolVar(&asJSON, "json", false, "what would be drawn, as JSON")
	words(cmd, "format", graph.Formats...)
	return cmd
}
