package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"tapswitch/cmd/internal/client"
	"tapswitch/cmd/internal/top"
)

func topCommand() *cobra.Command {
	var once, asJSON, flows bool
	var every time.Duration
	cmd := &cobra.Command{
		Use: "top", Short: "Show containers and flows by what they carry now", Args: cobra.NoArgs,
		Long: `Show containers and flows by what they carry now, with their recent past. Received and sent are the container's own.

Keys: q quits; c containers, f flows; 1 to 5 sort by rate, received, sent, drops (of flows: age) and name, s by the next, r turns the
order; arrows and page keys move. Columns that do not fit a small window are left out. NO_COLOR is respected. Without a terminal, or
with --once, one table is printed.`,
		RunE: func(*cobra.Command, []string) error {
			if every < 100*time.Millisecond {
				return usageError{errors.New("--delay: write 100ms or more")}
			}
			c, err := connect()
			if err != nil {
				return err
			}
			t := top.New()
			if flows {
				t.View = top.Flows
			}
			dumb := os.Getenv("TERM") == "dumb" || os.Getenv("TERM") == ""
			if asJSON || once || dumb || !term.IsTerminal(0) || !term.IsTerminal(1) {
				return printTop(c, t, every, asJSON, once || !asJSON)
			}
			return top.Run(os.Stdin, os.Stdout, every, t, func(v top.View) (top.Look, error) { return look(c, v) },
				top.Style{Colour: os.Getenv("NO_COLOR") == "", ASCII: !utf8Terminal(), Keys: true})
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&once, "once", false, "print one table and end")
	fl.BoolVarP(&flows, "flows", "f", false, "begin with flows")
	fl.DurationVarP(&every, "delay", "d", time.Second, "`time` between two looks")
	fl.BoolVar(&asJSON, "json", false, "a line of JSON for each look")
	return cmd
}

// look asks the switch for its counters.
func look(c *client.Client, v top.View) (l top.Look, err error) {
	if err = c.Do("GET", "/status", nil, &l.Status); err != nil {
		return l, err
	}
	if err = c.Do("GET", "/stats", nil, &l.Interfaces); err != nil {
		return l, err
	}
	if v == top.Flows {
		err = c.Do("GET", "/flows", nil, &l.Flows)
	}
	l.At = time.Now()
	return l, err
}

// printTop prints tables, or lines of JSON, without a terminal's help.
func printTop(c *client.Client, t *top.Top, every time.Duration, asJSON, once bool) error {
	l, err := look(c, t.View)
	if err != nil {
		return err
	}
	t.Take(l)
	for {
		time.Sleep(every)
		if l, err = look(c, t.View); err != nil {
			return err
		}
		t.Take(l)
		if asJSON {
			rows := t.Rows()
			if rows == nil {
				rows = []top.Row{}
			}
			err = json.NewEncoder(os.Stdout).Encode(map[string]any{"at": l.At.UTC().Truncate(time.Millisecond), "rows": rows})
		} else {
			_, err = fmt.Println(strings.Join(t.Render(tableWidth(), 0, top.Style{ASCII: !utf8Terminal()}), "\n"))
		}
		if err != nil || once {
			return err
		}
	}
}

// tableWidth is the terminal's, or wide enough for all columns.
func tableWidth() int {
	if w, _, err := term.GetSize(1); err == nil && w > 0 {
		return w
	}
	return 120
}

// utf8Terminal says whether the locale takes more than ASCII: the first of these
// that is set decides, as setlocale(3) has it.
func utf8Terminal() bool {
	for _, k := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := os.Getenv(k); v != "" {
			v = strings.ToUpper(v)
			return strings.Contains(v, "UTF-8") || strings.Contains(v, "UTF8")
		}
	}
	return false
}
