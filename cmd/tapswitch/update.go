package main

import (
	"errors"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/client"
)

// shapeFlags adds the flags of what interfaces are held to.
func shapeFlags(fl *pflag.FlagSet, s *api.Shape) {
	fl.StringVar(&s.RateIn, "rate-in", "", "`RATE` at which it is sent to, as tc writes it: 50mbit")
	fl.StringVar(&s.RateOut, "rate-out", "", "`RATE` at which it may send")
	fl.StringVar(&s.Burst, "burst", "", "`SIZE` that may pass at once, each way: 64kb (default: 5 ms of the rate, 64kb at least)")
	fl.StringVar(&s.Delay, "delay", "", "`TIME` that what it sends is held: 20ms")
	fl.StringVar(&s.Jitter, "jitter", "", "`TIME` that the delay varies by, more or less")
	fl.StringVar(&s.Loss, "loss", "", "`PERCENT` of what it sends that is lost: 1%")
	fl.IntVar(&s.Flows, "flows", 0, "`NUMBER` of flows that it may have at a time (default: limits.flows)")
}

func updateCommand() *cobra.Command {
	var s api.Shape
	cmd := &cobra.Command{
		Use: "update NAME [flags]", Short: "Change what a running container's interfaces are held to", Args: cobra.ExactArgs(1), ValidArgsFunction: completeContainers,
		Long: `Change the rates, delay, loss and number of flows of a container, at once: what is not named stays. none (for flows -1) takes
a limit away. What the container sends too fast waits in its own kernel's queue; what it is sent too fast waits here, up to
1 MiB, and is then dropped under the reason rate-limit.`,
		Example: `  tapswitch update web --rate-in 50mbit --rate-out 10mbit
  tapswitch update web --delay 40ms --jitter 5ms --loss 1%
  tapswitch update web --rate-in none`,
		RunE: func(_ *cobra.Command, args []string) error {
			if s == (api.Shape{}) {
				return usageError{errors.New("nothing to change: name a limit")}
			}
			c, err := connect()
			if err != nil {
				return err
			}
			return c.Do("POST", "/containers/"+client.Escape(args[0])+"/update", s, nil)
		},
	}
	shapeFlags(cmd.Flags(), &s)
	return cmd
}
