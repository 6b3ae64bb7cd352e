package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// listing adds the verb ls to a noun, whose own it is when there is no verb.
func listing(cmd *cobra.Command) *cobra.Command {
	ls := &cobra.Command{Use: "ls", Aliases: []string{"list"}, Short: cmd.Short, Args: cobra.NoArgs, RunE: cmd.RunE}
	ls.Flags().AddFlagSet(cmd.Flags())
	cmd.AddCommand(ls)
	return cmd
}

// watching prints what show writes again and again until it is interrupted, on a
// terminal always at its top.
func watching(every time.Duration, show func(w io.Writer) error) error {
	sigs := make(chan os.Signal, 1)
	signal.Notify(sigs, unix.SIGINT, unix.SIGTERM)
	defer signal.Stop(sigs)
	tick := time.NewTicker(every)
	defer tick.Stop()
	screen := term.IsTerminal(1)
	for {
		var b bytes.Buffer
		if screen {
			b.WriteString("\x1b[H\x1b[J")
		}
		if err := show(&b); err != nil {
			return err
		}
		if !screen {
			b.WriteByte('\n')
		}
		if _, err := os.Stdout.Write(b.Bytes()); err != nil {
			return ended(err)
		}
		select {
		case <-sigs:
			return nil
		case <-tick.C:
		}
	}
}

// following reads values, a line of JSON each, until it is interrupted or the
// switch ends; each is handed to show.
func following[T any](path, begun string, show func(x *T) error) error {
	c, err := connect()
	if err != nil {
		return err
	}
	l, err := c.Follow(path)
	if err != nil {
		return err
	}
	sigs := make(chan os.Signal, 1)
	signal.Notify(sigs, unix.SIGINT, unix.SIGTERM)
	defer signal.Stop(sigs)
	interrupted := make(chan struct{})
	go func() {
		if _, ok := <-sigs; ok {
			close(interrupted)
			l.Close()
		}
	}()
	fmt.Fprintln(os.Stderr, begun+"; end it with ^C")
	for {
		var x T
		if err := l.Next(&x); err != nil {
			select {
			case <-interrupted:
				return nil
			default:
			}
			if errors.Is(err, io.EOF) {
				return nil // the switch has ended
			}
			return err
		}
		if err := show(&x); err != nil {
			return ended(err)
		}
	}
}
