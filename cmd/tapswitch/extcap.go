package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/capture"
	"tapswitch/cmd/internal/client"
	"tapswitch/cmd/internal/place"
)

// ExtcapName is argv[0] for Wireshark, which passes flags to what lies in its
// extcap directory and never a command (doc/extcap.adoc there). A symbolic link
// of that name to this program is all that it takes, in ~/.config/wireshark/extcap
// (to 4.0) or ~/.local/lib/wireshark/extcap (from 4.2 on).
const ExtcapName = "tapswitch-extcap"

// extcapAny is the interface that is all of them.
const extcapAny = "tapswitch"

// extcapPrefix stands before the names of the others, which Wireshark lists
// beside the host's.
const extcapPrefix = "tapswitch:"

// extcap is the program ExtcapName.
func extcap(args []string) int {
	fs := pflag.NewFlagSet(ExtcapName, pflag.ContinueOnError)
	interfaces := fs.Bool("extcap-interfaces", false, "list interfaces")
	dlts := fs.Bool("extcap-dlts", false, "list an interface's link types")
	config := fs.Bool("extcap-config", false, "list an interface's options")
	run := fs.Bool("capture", false, "capture to --fifo")
	iface := fs.String("extcap-interface", "", "the interface, as --extcap-interfaces has it")
	fs.String("extcap-version", "", "Wireshark's version")
	fs.String("extcap-reload-option", "", "an option whose values are asked for again")
	filter := fs.String("extcap-capture-filter", "", "capture filter; without --capture it is checked")
	fifo := fs.String("fifo", "", "where to write")
	drops := fs.Bool("drops", false, "only what is dropped")
	exits := fs.Bool("exits", false, "a frame where it leaves the switch, too")
	split := fs.Bool("split", false, "super-frames as the frames that they stand for")
	snap := fs.Int("snaplen", 0, "bytes of each packet; 0 for all")
	fs.StringVar(&flagSocket, "socket", "", "control socket")
	fs.Bool("debug", false, "")
	fs.String("debug-file", "", "")
	say := func(err error) int {
		fmt.Fprintf(os.Stderr, "%s: %v\n", ExtcapName, err)
		return exitFailed
	}
	if err := fs.Parse(args); err != nil {
		return say(err)
	}
	name := strings.TrimPrefix(*iface, extcapPrefix)
	if name == extcapAny {
		name = "any"
	}
	switch {
	case *interfaces:
		return extcapInterfaces(say)
	case *dlts:
		fmt.Println("dlt {number=1}{name=EN10MB}{display=Ethernet}")
	case *config:
		extcapConfig()
	case *run:
		if *fifo == "" || *iface == "" {
			return say(errors.New("--capture needs --extcap-interface and --fifo"))
		}
		if *snap <= 0 {
			*snap = capture.MaxSnap
		}
		r := api.Capture{Interfaces: []string{name}, Filter: *filter, Drops: *drops, Exits: *exits, Split: *split, Snap: *snap}
		if err := extcapCapture(r, *fifo); err != nil {
			return say(err)
		}
	case fs.Changed("extcap-capture-filter"):
		// What is printed is what is wrong with the filter.
		if _, err := capture.ParseFilter(*filter, nil); err != nil {
			fmt.Println(err)
		}
	default:
		return say(errors.New("this program is for Wireshark to call: --extcap-interfaces, --extcap-dlts, --extcap-config, --capture"))
	}
	return exitOK
}

// extcapInterfaces lists what there is. Without a switch that is nothing, and no
// failure: Wireshark lists other interfaces beside ours.
func extcapInterfaces(say func(error) int) int {
	fmt.Printf("extcap {version=%s}{help=https://www.wireshark.org/docs/man-pages/extcap.html}{display=tapswitch}\n", Version)
	c, err := connect()
	var list []watchable
	if err == nil {
		list, err = captureInterfaces(c)
	}
	var off *client.NotRunning
	if err != nil {
		say(err)
		if errors.As(err, &off) {
			return exitOK
		}
		return exitFailed
	}
	fmt.Printf("interface {value=%s}{display=tapswitch, all containers}\n", extcapAny)
	for _, x := range list {
		fmt.Printf("interface {value=%s%s}{display=%s}\n", extcapPrefix, x.name, extcapText("tapswitch, "+x.about))
	}
	return exitOK
}

// extcapText is what may stand in braces.
func extcapText(s string) string { return strings.NewReplacer("{", "(", "}", ")").Replace(s) }

func extcapConfig() {
	socket, _ := place.Socket(flagSocket)
	for i, line := range []string{
		"{call=--drops}{display=Drops only}{type=boolflag}{default=false}{tooltip=Only frames that are not delivered, each with the reason as its comment}",
		"{call=--exits}{display=At each exit, too}{type=boolflag}{default=false}{tooltip=A frame where it leaves the switch, beside where it came from}",
		"{call=--split}{display=Split super-frames}{type=boolflag}{default=false}{tooltip=Frames as they would be on a wire, with finished checksums}",
		"{call=--snaplen}{display=Bytes of each packet}{type=unsigned}{range=0,262144}{default=0}{tooltip=0 for all; 256 costs the least}",
		"{call=--socket}{display=Control socket}{type=string}{default=" + extcapText(socket) + "}{tooltip=Of the switch; the default is this user's}",
	} {
		fmt.Printf("arg {number=%d}%s\n", i, line)
	}
}

// extcapCapture writes a capture to Wireshark's pipe until either ends.
func extcapCapture(r api.Capture, fifo string) error {
	if _, err := capture.ParseFilter(r.Filter, nil); err != nil {
		return err
	}
	c, err := connect()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(fifo, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer out.Close()
	conn, err := c.Stream("/capture", r)
	if err != nil {
		return err
	}
	defer conn.Close()
	sigs := make(chan os.Signal, 1)
	signal.Notify(sigs, unix.SIGINT, unix.SIGTERM)
	go func() { <-sigs; conn.Close() }()
	go closeBehind(conn, int(out.Fd()))
	_, err = io.Copy(out, conn)
	return ended(err)
}
