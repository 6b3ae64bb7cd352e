package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"

	"github.com/spf13/cobra"
	"tapswitch/cmd/internal/client"
)

func dialCommand() *cobra.Command {
	return &cobra.Command{
		Use: "dial NAME PORT", Short: "Connect standard input and output to a container's TCP port", Args: cobra.ExactArgs(2), ValidArgsFunction: completeContainers,
		Long: `Connect standard input and output to a TCP port of a container that need not have published it, nor be on a network that
the host reaches. The container sees its gateway as the client. NAME may be an address, too.`,
		Example: `  ssh -o ProxyCommand='tapswitch dial %h %p' root@web
  echo PING | tapswitch dial redis 6379`,
		RunE: func(_ *cobra.Command, args []string) error {
			port, err := strconv.ParseUint(args[1], 10, 16)
			if err != nil || port == 0 {
				return usageError{fmt.Errorf("%q is no port: write 1 to 65535", args[1])}
			}
			c, err := connect()
			if err != nil {
				return err
			}
			conn, err := c.Stream(fmt.Sprintf("/containers/%s/dial?port=%d", client.Escape(args[0]), port), nil)
			if err != nil {
				return err
			}
			return talk(conn)
		},
	}
}

// talk carries our standard input and output; it is over when the other end
// has said all.
func talk(conn net.Conn) error {
	go func() {
		_, _ = io.Copy(conn, os.Stdin)
		if h, ok := conn.(interface{ CloseWrite() error }); ok {
			_ = h.CloseWrite()
		}
	}()
	_, err := io.Copy(os.Stdout, conn)
	conn.Close()
	return err
}
