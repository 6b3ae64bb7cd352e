package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"sort"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/spf13/cobra"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/client"
)

// each does something for every name and goes on after a failure, as docker
// does; done names are printed.
func each(names []string, do func(c *client.Client, name string) error) error {
	c, err := connect()
	if err != nil {
		return err
	}
	var last error
	for _, n := range names {
		if err := do(c, n); err != nil {
			if last != nil {
				report(nil, last)
			}
			last = err
			continue
		}
		fmt.Println(n)
	}
	return last
}

func stopCommand() *cobra.Command {
	var t int
	cmd := &cobra.Command{
		Use: "stop NAME...", Short: "End containers: SIGTERM, and SIGKILL after a while", Args: cobra.MinimumNArgs(1), ValidArgsFunction: completeContainers,
		RunE: func(_ *cobra.Command, args []string) error {
			return each(args, func(c *client.Client, n string) error {
				return c.Do("POST", fmt.Sprintf("/containers/%s/stop?time=%d", client.Escape(n), t), nil, nil)
			})
		},
	}
	cmd.Flags().IntVarP(&t, "time", "t", 10, "`SECONDS` before SIGKILL")
	return cmd
}

func killCommand() *cobra.Command {
	var sig string
	cmd := &cobra.Command{
		Use: "kill NAME...", Short: "Send a signal to containers", Args: cobra.MinimumNArgs(1), ValidArgsFunction: completeContainers,
		RunE: func(_ *cobra.Command, args []string) error {
			return each(args, func(c *client.Client, n string) error {
				return c.Do("POST", "/containers/"+client.Escape(n)+"/kill?signal="+url.QueryEscape(sig), nil, nil)
			})
		},
	}
	cmd.Flags().StringVarP(&sig, "signal", "s", "KILL", "`SIGNAL`, by name or number")
	return cmd
}

func removeCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "rm NAME...", Short: "Remove containers", Args: cobra.MinimumNArgs(1), ValidArgsFunction: completeContainers,
		RunE: func(_ *cobra.Command, args []string) error {
			return each(args, func(c *client.Client, n string) error {
				p := "/containers/" + client.Escape(n)
				if force {
					p += "?force=1"
				}
				return c.Do("DELETE", p, nil, nil)
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "also those that run")
	return cmd
}

func waitCommand() *cobra.Command {
	return &cobra.Command{
		Use: "wait NAME...", Short: "Wait for containers to end, and print their exit codes", Args: cobra.MinimumNArgs(1), ValidArgsFunction: completeContainers,
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := connect()
			if err != nil {
				return err
			}
			for _, n := range args {
				var x api.Exit
				if err := c.Do("POST", "/containers/"+client.Escape(n)+"/wait", nil, &x); err != nil {
					return err
				}
				fmt.Println(x.Code)
			}
			return nil
		},
	}
}

func logsCommand() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use: "logs NAME", Short: "Print what a container that runs behind has written", Args: cobra.ExactArgs(1), ValidArgsFunction: completeContainers,
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := connect()
			if err != nil {
				return err
			}
			var v api.Container
			if err := c.Do("GET", "/containers/"+client.Escape(args[0]), nil, &v); err != nil {
				return err
			}
			if v.Log == "" {
				return nil
			}
			f, err := os.Open(v.Log)
			if errors.Is(err, os.ErrNotExist) {
				return nil // it ran on a terminal
			}
			if err != nil {
				return err
			}
			defer f.Close()
			if _, err := io.Copy(os.Stdout, f); err != nil || !follow {
				return err
			}
			return followLog(c, v, f)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until it ends")
	return cmd
}

// followLog prints what is added to a log until its container has ended.
func followLog(c *client.Client, v api.Container, f *os.File) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer w.Close()
	if err := w.Add(v.Log); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		_ = c.Do("POST", "/containers/"+v.ID+"/wait", nil, nil)
		close(done)
	}()
	for {
		if _, err := io.Copy(os.Stdout, f); err != nil {
			return err
		}
		select {
		case <-w.Events:
		case <-done:
			_, err := io.Copy(os.Stdout, f)
			return err
		}
	}
}

func psCommand() *cobra.Command {
	var asJSON, quiet, all bool
	cmd := &cobra.Command{
		Use: "ps", Short: "List containers", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := connect()
			if err != nil {
				return err
			}
			path := "/containers"
			if all {
				path += "?all=1"
			}
			var list []*api.Container
			if err := c.Do("GET", path, nil, &list); err != nil {
				return err
			}
			switch {
			case asJSON:
				return printJSON(list)
			case quiet:
				for _, x := range list {
					fmt.Println(x.ID[:12])
				}
				return nil
			}
			w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
			fmt.Fprintln(w, "ID\tNAME\tCOMMAND\tCREATED\tSTATUS\tNETWORKS\tPORTS")
			for _, x := range list {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", x.ID[:12], x.Name, shorten(command(x), 24), ago(x.Created), state(x), networksOf(x), portsOf(x))
			}
			return w.Flush()
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&asJSON, "json", false, "as JSON")
	fl.BoolVarP(&quiet, "quiet", "q", false, "ids only")
	fl.BoolVarP(&all, "all", "a", false, "also those that have ended")
	return cmd
}

func command(c *api.Container) string {
	switch {
	case c.Kind == "join":
		return "(joined)"
	case len(c.Command) == 0:
		return "(held open)"
	}
	return strings.Join(c.Command, " ")
}

func shorten(s string, n int) string {
	if len(s) > n {
		return s[:n-1] + "…"
	}
	return s
}

func state(c *api.Container) string {
	if c.ExitCode != nil {
		return fmt.Sprintf("exited (%d)", *c.ExitCode)
	}
	return c.State
}

func ago(t time.Time) string {
	d := time.Since(t).Round(time.Second)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh ago", int(d.Hours()))
	}
	return fmt.Sprintf("%dd ago", int(d.Hours()/24))
}

func networksOf(c *api.Container) string {
	if len(c.Networks) == 0 {
		return c.Mode
	}
	var out []string
	for _, n := range c.Networks {
		out = append(out, n.Network+"="+n.IP)
	}
	return strings.Join(out, ",")
}

func portsOf(c *api.Container) string {
	var out []string
	for _, p := range c.Ports {
		out = append(out, portText(p))
	}
	return strings.Join(out, ", ")
}

func hostPort(p api.Port) string {
	if p.HostIP == "" {
		return "routed" // by the container's own address alone
	}
	if strings.Contains(p.HostIP, ":") {
		return fmt.Sprintf("[%s]:%d", p.HostIP, p.HostPort)
	}
	return fmt.Sprintf("%s:%d", p.HostIP, p.HostPort)
}

func portText(p api.Port) string {
	return fmt.Sprintf("%s->%d/%s", hostPort(p), p.ContainerPort, p.Protocol)
}

func portCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "port [NAME [PORT[/PROTO]]]", Short: "List published ports", Args: cobra.MaximumNArgs(2), ValidArgsFunction: completeContainers,
		Long: "List published ports: of all containers, of one, or where one port of it is published.",
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := connect()
			if err != nil {
				return err
			}
			var list []*api.Container
			if len(args) > 0 {
				var v api.Container
				if err := c.Do("GET", "/containers/"+client.Escape(args[0]), nil, &v); err != nil {
					return err
				}
				list = append(list, &v)
			} else if err := c.Do("GET", "/containers", nil, &list); err != nil {
				return err
			}
			rows := []map[string]any{}
			for _, x := range list {
				for _, p := range x.Ports {
					if len(args) == 2 && !isPort(p, args[1]) {
						continue
					}
					rows = append(rows, map[string]any{"container": x.Name, "protocol": p.Protocol, "host_ip": p.HostIP, "host_port": p.HostPort, "container_port": p.ContainerPort})
					if asJSON {
						continue
					}
					if len(args) == 0 {
						fmt.Printf("%s ", x.Name)
					}
					if len(args) == 2 {
						fmt.Println(hostPort(p))
						continue
					}
					fmt.Printf("%d/%s -> %s\n", p.ContainerPort, p.Protocol, hostPort(p))
				}
			}
			if len(args) == 2 && len(rows) == 0 {
				return fmt.Errorf("no public port '%s' published for %s", args[1], args[0])
			}
			if asJSON {
				return printJSON(rows)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

// isPort says whether p leads to the container's port s: PORT[/PROTO].
func isPort(p api.Port, s string) bool {
	port, proto, _ := strings.Cut(s, "/")
	return port == strconv.Itoa(int(p.ContainerPort)) && or(proto, "tcp") == p.Protocol
}

func publishCommand() *cobra.Command {
	return &cobra.Command{
		Use: "publish NAME SPEC...", Short: "Publish further ports of a running container", Args: cobra.MinimumNArgs(2), ValidArgsFunction: completeContainers,
		Long: `Publish further ports of a running container: SPEC is [HOSTIP:][HOSTPORT[-END]]:PORT[-END][/udp], as with run -p. What was
published is printed; all of it is, or nothing.`,
		Example: "  tapswitch publish web 8443:443 127.0.0.1::53/udp",
		RunE:    func(_ *cobra.Command, args []string) error { return changePorts("publish", args) },
	}
}

func unpublishCommand() *cobra.Command {
	return &cobra.Command{
		Use: "unpublish NAME SPEC...", Short: "Close published ports of a running container", Args: cobra.MinimumNArgs(2), ValidArgsFunction: completeContainers,
		Long: `Close published ports of a running container: SPEC as with publish; what it leaves out stands for any. Connections that
came through them go on.`,
		Example: "  tapswitch unpublish web 443\n  tapswitch unpublish web 8080:80",
		RunE:    func(_ *cobra.Command, args []string) error { return changePorts("unpublish", args) },
	}
}

func changePorts(verb string, args []string) error {
	c, err := connect()
	if err != nil {
		return err
	}
	var ports []api.Port
	if err := c.Do("POST", "/containers/"+client.Escape(args[0])+"/"+verb, api.Publish{Ports: args[1:]}, &ports); err != nil {
		return err
	}
	for _, p := range ports {
		fmt.Printf("%d/%s -> %s\n", p.ContainerPort, p.Protocol, hostPort(p))
	}
	return nil
}

// sortedKeys are a map's keys in order.
func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}
