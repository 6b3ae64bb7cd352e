package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/client"
	"tapswitch/cmd/internal/place"
	"tapswitch/configs"
	"tapswitch/forward"
)

// Exit codes of our own.
const (
	exitOK         = 0
	exitFailed     = 1
	exitUsage      = 2
	exitNotFound   = 3
	exitNoSwitch   = 4
	exitOurs       = 125 // run, exec: our failure
	exitDenied     = 126
	exitNoCommand  = 127
	runtimeTimeout = 30 // seconds that a predecessor may take to die
)

// exitError ends the program with a code, and no message of its own.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// usageError is a misuse: one line and the way to the help.
type usageError struct{ error }

var flagSocket string

func run(args []string) int {
	configs.CheckPublish = func(s string) error { _, err := forward.ParseSpec(s); return err }
	root := rootCommand()
	root.SetArgs(args)
	cmd, err := root.ExecuteC()
	if err == nil {
		return exitOK
	}
	var code exitError
	if errors.As(err, &code) {
		return int(code)
	}
	return report(cmd, err)
}

// report prints an error and gives its exit code.
func report(cmd *cobra.Command, err error) int {
	say := func(format string, a ...any) { fmt.Fprintf(os.Stderr, "tapswitch: "+format+"\n", a...) }
	var use usageError
	var ae *api.Error
	var off *client.NotRunning
	switch {
	case errors.As(err, &use) || strings.HasPrefix(err.Error(), "unknown command"):
		say("%s", oneLine(cmd, err))
		return exitUsage
	case errors.As(err, &off):
		say("%v", err)
		return exitNoSwitch
	case errors.As(err, &ae):
		say("%s", ae.Message)
		if ae.Hint != "" {
			fmt.Fprintln(os.Stderr, "  "+ae.Hint)
		}
		if ae.Code == api.NotFound {
			return exitNotFound
		}
		return exitFailed
	}
	say("%v", err)
	return exitFailed
}

// oneLine makes one line of cobra's message, with its first suggestion.
func oneLine(cmd *cobra.Command, err error) string {
	text, rest, _ := strings.Cut(err.Error(), "\n")
	for _, l := range strings.Split(rest, "\n") {
		if l = strings.TrimSpace(l); l != "" && !strings.HasSuffix(l, "?") {
			return fmt.Sprintf("%s; did you mean %q?", text, l)
		}
	}
	return fmt.Sprintf("%s (see %s --help)", text, cmd.CommandPath())
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "tapswitch",
		Short: "The network of rootless containers: a virtual switch over TAP devices",
		Long: `tapswitch gives an ordinary user the network that Docker gives root: bridges kept
apart, masquerade, published ports, names. It is one program; nothing is
installed in the host's kernel.

  tapswitch demo                      see it work, on nothing but this machine
  tapswitch run -- sh                 a shell in a container of its own
  tapswitch up -d                     a switch for all that follows
  tapswitch run -d -p 8080:80 --name web -- busybox httpd -f -p 80

A container here is a program of this host in its own network: no image, and no
protection from it. tapswitch join puts containers of others on the switch.`,
		SilenceErrors: true, SilenceUsage: true,
		SuggestionsMinimumDistance: 2,
	}
	root.PersistentFlags().StringVar(&flagSocket, "socket", "", "control socket (default $TAPSWITCH_SOCKET, else tapswitch/tapswitch.sock under $XDG_RUNTIME_DIR)")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(
		upCommand(), downCommand(), reloadCommand(), demoCommand(), demoProbeCommand(), runCommand(),
		execCommand(), joinCommand(), leaveCommand(), stopCommand(), removeCommand(), killCommand(),
		logsCommand(), waitCommand(), psCommand(), inspectCommand(), containerCommand(), networkCommand(),
		ruleCommand(), routeCommand(), egressCommand(), traceCommand(), verifyCommand(), dialCommand(),
		updateCommand(), captureCommand(), hookCommand(), dockerPluginCommand(), portCommand(), publishCommand(),
		unpublishCommand(), neighCommand(), dnsCommand(), whyCommand(), monitorCommand(), statusCommand(),
		dropCommand(), flowCommand(), fdbCommand(), configCommand(), versionCommand(), doctorCommand(),
		metricsCommand(), logCommand(), apiCommand(), graphCommand(), topCommand(), installCommand(),
		uninstallCommand(), manCommand(), facesCommand(),
	)
	walk(root, func(c *cobra.Command) {
		if c.Args != nil {
			check := c.Args
			c.Args = func(cmd *cobra.Command, args []string) error {
				if err := check(cmd, args); err != nil {
					return usageError{err}
				}
				return nil
			}
		}
	})
	return root
}

func walk(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, x := range c.Commands() {
		walk(x, f)
	}
}

// connect is a client of the switch in use.
func connect() (*client.Client, error) {
	s, err := place.Socket(flagSocket)
	if err != nil {
		return nil, err
	}
	return &client.Client{Socket: s}, nil
}

// printJSON prints v for programs.
func printJSON(v any) error { return writeJSON(os.Stdout, v) }

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// completeContainers offers names of containers.
func completeContainers(_ *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	var out []string
	if c, err := connect(); err == nil {
		var list []*api.Container
		if c.Do("GET", "/containers?all=1", nil, &list) == nil {
			for _, x := range list {
				out = append(out, x.Name)
			}
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// completeNetworks offers names of networks.
func completeNetworks(_ *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	var out []string
	if c, err := connect(); err == nil {
		var list []*api.Network
		if c.Do("GET", "/networks", nil, &list) == nil {
			for _, x := range list {
				out = append(out, x.Name)
			}
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}
