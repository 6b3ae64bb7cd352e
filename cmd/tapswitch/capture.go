package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/capture"
	"tapswitch/cmd/internal/client"
)

type captureFlags struct {
	api.Capture
	last                 time.Duration
	write                string
	count, size, files   int
	ether, list, numbers bool
	verbose, hex         int
}

func captureCommand() *cobra.Command {
	var f captureFlags
	cmd := &cobra.Command{
		Use: "capture [flags] [FILTER]", Short: "Show packets as they pass, with what becomes of each",
		Long: `Show packets as they pass through the switch, and what becomes of each: forwarded where, or dropped for which reason, or the flow
with both its sides, and which process in the container has sent it or waits for it. A frame that crosses the switch appears once,
where it came from (>); what the gateway sends to a container appears there (<). Super-frames are shown as they are, or, with
--split, as what they would be on a wire.

With -w it is written as pcapng, with an interface for each container's, the names of containers and of DNS answers, and what became
of a packet as its comment. A slow reader never slows traffic: what it misses is counted in the file.

FILTER is pcap-filter(7) as people type it: host, net, port, portrange, src, dst, proto, protocols, ether, vlan, broadcast, multicast,
less, greater, len, tcp[13] & 2 != 0, and, or, not, parentheses; beside these, host takes names of containers, and inbound and outbound
are what containers send and are sent. It sees all of a frame, whatever -s says.

With --last 60s it shows the packets of the last minute and ends: the first 128 bytes of each, which is also what the filter sees of
them. The configuration must have capture_ring: SIZE for that.`,
		Example: `  tapswitch capture -i web port 80
  tapswitch capture --drops
  tapswitch capture -w - | wireshark -k -i -
  tapswitch capture -i backend -w out.pcapng -C 100 -W 5 -s 0 'tcp[tcpflags] & (tcp-syn|tcp-rst) != 0'
  tapswitch capture --last 60s --drops host web`,
		RunE: func(_ *cobra.Command, args []string) error {
			f.Filter = strings.Join(args, " ")
			return runCapture(f)
		},
	}
	fl := cmd.Flags()
	fl.StringArrayVarP(&f.Interfaces, "interface", "i", nil, "`CONTAINER[:IF]` or network to watch, or any (repeat it for more; default: all)")
	fl.BoolVar(&f.Drops, "drops", false, "only what is dropped")
	fl.StringVarP(&f.Direction, "direction", "Q", "", "`in`: only what containers send; out: only what they are sent")
	fl.BoolVar(&f.Exits, "exits", false, "show a frame where it leaves the switch, too")
	fl.BoolVar(&f.Split, "split", false, "show super-frames as the frames that they stand for, with finished checksums; takes all of each frame")
	fl.DurationVar(&f.last, "last", 0, "show the packets of the last `TIME`, as 60s, instead (needs capture_ring)")
	fl.StringVarP(&f.write, "write", "w", "", "write pcapng to `FILE`, or - for standard output")
	fl.IntVarP(&f.size, "file-size", "C", 0, "begin a new file after `MB` millions of bytes: FILE, FILE1, FILE2")
	fl.IntVarP(&f.files, "files", "W", 0, "with -C: no more than `N` files; the oldest is written over")
	fl.IntVarP(&f.count, "count", "c", 0, "end after `N` packets")
	fl.IntVarP(&f.Snap, "snaplen", "s", 256, "`BYTES` of each packet; 0 for all")
	fl.BoolVarP(&f.numbers, "numbers", "n", false, "addresses instead of names")
	fl.BoolVarP(&f.ether, "ether", "e", false, "show MAC addresses")
	fl.CountVarP(&f.verbose, "verbose", "v", "show all of the IP header, and whether checksums are right")
	fl.CountVarP(&f.hex, "hex", "X", "show bytes, too; twice: with the Ethernet header")
	fl.BoolVarP(&f.list, "list-interfaces", "D", false, "list what can be watched")
	_ = cmd.RegisterFlagCompletionFunc("interface", completeCapture)
	_ = cmd.RegisterFlagCompletionFunc("direction", cobra.FixedCompletions([]string{"in", "out"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// completeCapture offers what can be watched.
func completeCapture(*cobra.Command, []string, string) (out []string, _ cobra.ShellCompDirective) {
	if c, err := connect(); err == nil {
		list, _ := captureInterfaces(c)
		for _, x := range list {
			out = append(out, x.name+"\t"+x.about)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// check says what of the flags makes no sense.
func (f *captureFlags) check() error {
	if _, err := capture.ParseFilter(f.Filter, nil); err != nil {
		fmt.Fprintln(os.Stderr, "tapswitch:", err)
		return exitError(exitUsage)
	}
	switch {
	case f.Direction == "inout":
		f.Direction = ""
	case f.Direction != "" && f.Direction != "in" && f.Direction != "out":
		return usageError{fmt.Errorf("-Q %s: write in or out", f.Direction)}
	case f.Snap < 0 || f.count < 0 || f.size < 0 || f.files < 0 || f.last < 0:
		return usageError{errors.New("-s, -c, -C, -W and --last are not negative")}
	case f.size > 0 && (f.write == "" || f.write == "-"):
		return usageError{errors.New("-C begins new files: -w FILE says where")}
	case f.files > 0 && f.size == 0:
		return usageError{errors.New("-W bounds the files that -C begins: give that, too")}
	case f.write == "-" && term.IsTerminal(1):
		return usageError{errors.New("-w - writes bytes that are no text: lead them into a file or a program")}
	case f.last > 0 && (f.Split || f.Exits):
		return usageError{errors.New("--last has headers where packets came from: no --exits, nothing to --split")}
	}
	if f.Snap == 0 {
		f.Snap = capture.MaxSnap
	}
	f.Last = f.last.Seconds()
	return nil
}

func runCapture(f captureFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	c, err := connect()
	if err != nil {
		return err
	}
	if f.list {
		list, err := captureInterfaces(c)
		for _, x := range list {
			fmt.Printf("%s\t%s\n", x.name, x.about)
		}
		return err
	}
	conn, err := c.Stream("/capture", f.Capture)
	if err != nil {
		return err
	}
	return f.receive(conn)
}

// receive writes or prints what comes until that ends, or we are told to.
func (f *captureFlags) receive(conn net.Conn) error {
	defer conn.Close()
	sigs := make(chan os.Signal, 1)
	signal.Notify(sigs, unix.SIGINT, unix.SIGTERM)
	go func() { <-sigs; conn.Close() }()
	if f.last == 0 {
		fmt.Fprintln(os.Stderr, "capturing; end it with ^C")
	}
	if f.write == "" || f.write == "-" {
		go closeBehind(conn, 1)
	}
	switch f.write {
	case "":
		return f.print(conn, os.Stdout)
	case "-":
		if f.count == 0 {
			_, err := io.Copy(os.Stdout, conn)
			return ended(err)
		}
		return f.copyBlocks(conn, &onePipe{os.Stdout})
	}
	r := &rotation{name: f.write, limit: int64(f.size) * 1_000_000, files: f.files}
	if err := r.next(nil); err != nil {
		return err
	}
	err := f.copyBlocks(conn, r)
	return errors.Join(err, r.close())
}

// closeBehind closes a capture when nobody reads any more what it is written to,
// which a write would find out only with the next packet.
func closeBehind(conn net.Conn, fd int) {
	p := []unix.PollFd{{Fd: int32(fd)}} // no events: errors come unasked
	for {
		if _, err := unix.Poll(p, -1); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if p[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0 {
		conn.Close()
	}
}

// ended is no error if we or the reader of ours have ended it.
func ended(err error) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrClosed) || errors.Is(err, unix.EPIPE) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// print prints packets as tcpdump does.
func (f *captureFlags) print(from io.Reader, out io.Writer) error {
	r := capture.NewReader(from)
	w := capture.Printer{Ether: f.ether, Verbose: f.verbose > 0, Hex: f.hex}
	if !f.numbers {
		w.Names = r.Names
	}
	n := 0
	for f.count == 0 || n < f.count {
		p, err := r.Next()
		if err != nil {
			if err := ended(err); err != nil {
				return err
			}
			break
		}
		n++
		if _, err := fmt.Fprintln(out, w.Line(r.Interfaces[p.Interface], p)); err != nil {
			return ended(err)
		}
	}
	fmt.Fprintf(os.Stderr, "%d packets captured, %d missed\n", n, r.Missed)
	return nil
}

// watchable is what -i takes.
type watchable struct{ name, about string }

// captureInterfaces are the networks and the containers' interfaces.
func captureInterfaces(c *client.Client) (out []watchable, err error) {
	var networks []*api.Network
	var list []*api.Container
	if err := errors.Join(c.Do("GET", "/networks", nil, &networks), c.Do("GET", "/containers", nil, &list)); err != nil {
		return nil, err
	}
	for _, n := range networks {
		about := "network"
		for _, s := range n.Subnets {
			about += " " + s.Subnet.String()
		}
		out = append(out, watchable{n.Name, about})
	}
	for _, x := range list {
		for _, n := range x.Networks {
			out = append(out, watchable{x.Name + ":" + n.IfName, n.Network + " " + strings.TrimSpace(n.IP+" "+n.IP6)})
		}
	}
	return out, nil
}
