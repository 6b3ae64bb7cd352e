package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/capture"
)

type captureFlags struct {
	api.Capture
	write            string
	count            int
	ether, hex, list bool
}

func captureCommand() *cobra.Command {
	var f captureFlags
	cmd := &cobra.Command{
		Use: "capture [flags] [FILTER]", Short: "Show packets as they pass, with what becomes of each",
		Long: `Show packets as they pass through the switch, and what becomes of each: forwarded where, or dropped for which reason, or the flow
with both its sides. A frame that crosses the switch appears once, where it came from (>); what the gateway sends to a
container appears there (<). Super-frames are shown as they are.

With -w it is written as pcapng, with an interface for each container's, the containers' names, and what became of a packet as its
comment. A slow reader never slows traffic: what it misses is counted in the file.

FILTER is pcap-filter(7) as people type it: host, net, port, portrange, src, dst, protocols, less, greater, tcp[13] & 2 != 0, and, or,
not, parentheses.`,
		Example: `  tapswitch capture -i web port 80
  tapswitch capture --drops
  tapswitch capture -w - | wireshark -k -i -
  tapswitch capture -i backend -w out.pcapng -s 0 'tcp[tcpflags] & (tcp-syn|tcp-rst) != 0'`,
		RunE: func(_ *cobra.Command, args []string) error {
			f.Filter = strings.Join(args, " ")
			return runCapture(f)
		},
	}
	fl := cmd.Flags()
	fl.StringArrayVarP(&f.Interfaces, "interface", "i", nil, "`CONTAINER[:IF]` or network to watch, or any (repeat it for more; default: all)")
	fl.BoolVar(&f.Drops, "drops", false, "only what is dropped")
	fl.StringVarP(&f.write, "write", "w", "", "write pcapng to `FILE`, or - for standard output")
	fl.IntVarP(&f.count, "count", "c", 0, "end after `N` packets")
	fl.IntVarP(&f.Snap, "snaplen", "s", 256, "`BYTES` of each packet; 0 for all")
	fl.BoolVarP(&f.ether, "ether", "e", false, "show MAC addresses")
	fl.BoolVarP(&f.hex, "hex", "X", false, "show bytes, too")
	fl.BoolP("numbers", "n", false, "numbers instead of names, as tcpdump has it; they always are")
	fl.BoolVarP(&f.list, "list-interfaces", "D", false, "list what can be watched")
	_ = cmd.RegisterFlagCompletionFunc("interface", completeContainers)
	return cmd
}

func runCapture(f captureFlags) error {
	if _, err := capture.ParseFilter(f.Filter); err != nil {
		fmt.Fprintln(os.Stderr, "tapswitch:", err)
		return exitError(exitUsage)
	}
	if f.Snap == 0 {
		f.Snap = 65535
	}
	c, err := connect()
	if err != nil {
		return err
	}
	if f.list {
		var list []*api.Container
		if err := c.Do("GET", "/containers", nil, &list); err != nil {
			return err
		}
		for _, x := range list {
			for _, n := range x.Networks {
				fmt.Printf("%s:%s\t%s %s\n", x.Name, n.IfName, n.Network, strings.TrimSpace(n.IP+" "+n.IP6))
			}
		}
		return nil
	}
	out := os.Stdout
	switch f.write {
	case "", "-":
	default:
		if out, err = os.Create(f.write); err != nil {
			return err
		}
		defer out.Close()
	}
	if f.write == "-" && term.IsTerminal(1) {
		return usageError{errors.New("-w - writes bytes that are no text: lead them into a file or a program")}
	}
	conn, err := c.Stream("/capture", f.Capture)
	if err != nil {
		return err
	}
	sigs := make(chan os.Signal, 1)
	signal.Notify(sigs, unix.SIGINT, unix.SIGTERM)
	go func() { <-sigs; conn.Close() }()
	fmt.Fprintln(os.Stderr, "capturing; end it with ^C")
	if f.write != "" && f.count == 0 {
		_, err = io.Copy(out, conn)
		return ended(err)
	}
	return showPackets(f, conn, out)
}

// ended is no error if we or the reader of ours have ended it.
func ended(err error) error {
	if err == nil || errors.Is(err, os.ErrClosed) || errors.Is(err, unix.EPIPE) || strings.Contains(err.Error(), "use of closed") {
		return nil
	}
	return err
}

// showPackets prints packets, or copies a number of them to a file.
func showPackets(f captureFlags, from io.Reader, out io.Writer) error {
	var kept strings.Builder
	source := from
	if f.write != "" {
		source = io.TeeReader(from, &kept)
	}
	r := capture.NewReader(source)
	n := 0
	for f.count == 0 || n < f.count {
		p, err := r.Next()
		if errors.Is(err, io.EOF) || ended(err) == nil && err != nil {
			break
		}
		if err != nil {
			return err
		}
		n++
		if f.write != "" {
			continue
		}
		fmt.Fprintln(out, capture.Line(r.Interfaces[p.Interface], p, f.ether))
		if f.hex {
			fmt.Fprintln(out, capture.Dump(p))
		}
	}
	if f.write != "" {
		_, err := io.WriteString(out, r.Cut(kept.String()))
		return err
	}
	fmt.Fprintf(os.Stderr, "%d packets captured, %d missed\n", n, r.Missed)
	return nil
}
