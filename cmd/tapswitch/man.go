package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// manCommand writes the manual, a page for each command, for whoever packages
// us.
func manCommand() *cobra.Command {
	return &cobra.Command{
		Use: "man DIR", Short: "Write the manual pages into a directory", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := cmd.Root()
			root.InitDefaultCompletionCmd()
			walk(root, func(c *cobra.Command) { c.DisableAutoGenTag = true })
			head := &doc.GenManHeader{Section: "1", Source: "tapswitch " + Version, Manual: "tapswitch"}
			if err := doc.GenManTree(root, head, args[0]); err != nil {
				return err
			}
			return appendTo(filepath.Join(args[0], "tapswitch.1"), manTail)
		},
	}
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// manTail is what the commands do not say of themselves.
const manTail = `
.SH EXIT STATUS
0 done, 1 failed, 2 misuse, 3 not found, 4 no switch is running. run and exec end as their command does; 125 is a failure of
ours, 126 a command that cannot be executed, 127 one that is not found, 128+n the end by signal n.

.SH ENVIRONMENT
.TP
\fBTAPSWITCH_SOCKET\fP
the control socket, if --socket does not say it
.TP
\fBTAPSWITCH_*\fP
settings, before those of the configuration file: TAPSWITCH_LOG_LEVEL is log.level
.TP
\fBNOTIFY_SOCKET, LISTEN_FDS, WATCHDOG_USEC\fP
from a service manager, for up

.SH FILES
.TP
\fI./tapswitch.yaml, ~/.config/tapswitch/tapswitch.yaml, /etc/tapswitch/tapswitch.yaml\fP
configuration; the first that is there. \fBtapswitch config init\fP prints a commented one
.TP
\fI$XDG_RUNTIME_DIR/tapswitch/, /run/tapswitch/\fP
control socket, lock and logs; the second is root's
.TP
\fI~/.local/state/tapswitch/, /var/lib/tapswitch/\fP
what commands have made, for the next start
`

// facesCommand lists the names by which the program can be called, for whoever
// packages it.
func facesCommand() *cobra.Command {
	return &cobra.Command{
		Use: "faces", Short: "List the names by which others call this program", Hidden: true, Args: cobra.NoArgs,
		Run: func(*cobra.Command, []string) {
			for _, f := range faces() {
				if f.short != "" {
					fmt.Printf("%s\t%s\t%s\n", f.installer(), f.name, f.short)
				}
			}
		},
	}
}
