package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"tapswitch/cmd/internal/api"
)

func monitorCommand() *cobra.Command {
	var asJSON bool
	var container, types string
	cmd := &cobra.Command{
		Use: "monitor", Aliases: []string{"events"}, Short: "Show what happens, as it happens", Args: cobra.NoArgs,
		Long: `Show what happens, as it happens: containers join and leave, networks are made and removed, ports published and
unpublished, flows open and close with their totals, frames are dropped (how many in the last second), limits are reached,
names asked for, a configuration is applied or refused. A slow reader loses events, and is told how many; nothing waits for it.

The same by the API: curl -N --unix-socket $XDG_RUNTIME_DIR/tapswitch/tapswitch.sock http://x/v1/events`,
		Example: `  tapswitch monitor --container web
  tapswitch monitor --type flow,drop --json`,
		RunE: func(*cobra.Command, []string) error {
			q := url.Values{}
			if container != "" {
				q.Set("container", container)
			}
			if types != "" {
				q.Set("type", types)
			}
			out := json.NewEncoder(os.Stdout)
			return following("/events?"+q.Encode(), "watching", func(x *api.Event) error {
				if asJSON {
					return out.Encode(x)
				}
				_, err := fmt.Println(eventLine(x))
				return err
			})
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&asJSON, "json", false, "as JSON, a line each")
	fl.StringVar(&container, "container", "", "only what concerns container `NAME`")
	fl.StringVar(&types, "type", "", "only these `TYPES`: container, network, port, flow, drop, limit, dns, config")
	_ = cmd.RegisterFlagCompletionFunc("container", completeContainers)
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions([]string{"container", "network", "port", "flow", "drop", "limit", "dns", "config"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// eventLine is an event on a line.
func eventLine(x *api.Event) string {
	return x.Time.Local().Format("15:04:05.000") + " " + eventText(x)
}

func eventText(x *api.Event) string {
	switch x.Type {
	case "container":
		return strings.TrimSpace(fmt.Sprintf("container %s %s %s: %s %s", x.Container, x.Action, x.Network, x.Interface, strings.Join(x.Addresses, " ")))
	case "network":
		return fmt.Sprintf("network %s %s: %s", x.Network, x.Action, x.Text)
	case "port":
		at := fmt.Sprintf("%s:%d", x.Port.HostIP, x.Port.HostPort)
		if strings.Contains(x.Port.HostIP, ":") {
			at = fmt.Sprintf("[%s]:%d", x.Port.HostIP, x.Port.HostPort)
		}
		return fmt.Sprintf("port %s %s -> %s %d/%s", x.Action, at, x.Container, x.Port.ContainerPort, x.Port.Protocol)
	case "flow":
		if x.Action == "opened" {
			return fmt.Sprintf("flow opened %s %s", x.Interface, flowSides(x.Flow))
		}
		return fmt.Sprintf("flow closed (%s) %s", x.End, flowLine(x.Flow))
	case "drop", "limit":
		frames := "frames"
		if x.Count == 1 {
			frames = "frame"
		}
		return fmt.Sprintf("%s %s: %d %s: %s: %s", x.Type, x.Interface, x.Count, frames, x.Reason, x.Why)
	case "dns":
		q := x.Question
		return fmt.Sprintf("dns %s: %s %s: %s by %s in %.1f ms", or(q.Container, q.Client), q.Type, q.Name, q.Rcode, answeredBy(q), q.TookMs)
	case "missed":
		return fmt.Sprintf("missed %d %s", x.Count, x.Text)
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s %s", x.Type, x.Action, x.Text))
}
