package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/template"

	"github.com/spf13/cobra"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/client"
)

func inspectCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "inspect NAME...", Short: "Show containers, with their counters, as a JSON array", Args: cobra.MinimumNArgs(1), ValidArgsFunction: completeContainers,
		Long: `Show containers as a JSON array; with --format docker in Docker's shape, or by a Go template over the keys of either, for
instance '{{.state}}' or '{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}'.`,
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := connect()
			if err != nil {
				return err
			}
			return inspect(args, format, func(name string) (any, any, error) {
				var v api.Container
				err := c.Do("GET", "/containers/"+client.Escape(name), nil, &v)
				return &v, asDockerContainer(&v), err
			})
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "json, docker, or a Go `template`")
	return cmd
}

// containerCommand groups the commands about containers, as Docker does too.
func containerCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "container", Aliases: []string{"containers"}, Short: "The commands about containers, by Docker's longer names"}
	ls := psCommand()
	ls.Use, ls.Aliases = "ls", []string{"list", "ps"}
	cmd.AddCommand(ls, inspectCommand(), runCommand(), execCommand(), stopCommand(), killCommand(), removeCommand(), logsCommand(), waitCommand(), portCommand())
	return cmd
}

// inspect prints what find finds of each name, in our shape or in Docker's. What
// is not found is told, and is the exit code.
func inspect(names []string, format string, find func(name string) (ours, dockers any, err error)) error {
	ours, dockers := []any{}, []any{}
	var last error
	for _, name := range names {
		a, b, err := find(name)
		if err != nil {
			if last != nil {
				report(nil, last)
			}
			last = err
			continue
		}
		ours, dockers = append(ours, a), append(dockers, b)
	}
	var err error
	switch format {
	case "", "json":
		err = printJSON(ours)
	case "docker":
		err = printJSON(dockers)
	default:
		for i := range ours {
			if err = printTemplate(format, ours[i], dockers[i]); err != nil {
				break
			}
		}
	}
	if err != nil {
		return err
	}
	return last
}

// printTemplate prints one line by a Go template over the keys that the values
// have as JSON.
func printTemplate(text string, values ...any) error {
	t, err := template.New("format").Option("missingkey=error").Funcs(template.FuncMap{
		"json":  func(v any) (string, error) { b, err := json.Marshal(v); return string(b), err },
		"join":  strings.Join,
		"lower": strings.ToLower, "upper": strings.ToUpper,
		"println": fmt.Sprintln,
	}).Parse(text)
	if err != nil {
		return usageError{fmt.Errorf("--format: %w", err)}
	}
	all := make(map[string]any)
	for _, v := range values {
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(b, &all); err != nil {
			return err
		}
	}
	var out strings.Builder
	if err := t.Execute(&out, all); err != nil {
		return fmt.Errorf("--format: %w", err)
	}
	fmt.Println(out.String())
	return nil
}
