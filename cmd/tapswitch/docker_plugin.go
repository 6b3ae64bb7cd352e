package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/dockerplugin"
	"tapswitch/cmd/internal/place"
)

type pluginFlags struct {
	name, listen, spec, netns string
}

func dockerPluginCommand() *cobra.Command {
	var f pluginFlags
	cmd := &cobra.Command{
		Use: "docker-plugin", Short: "Be a network driver of Docker's", Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		Long: `Serve Docker's protocol for network drivers, so that Docker's own commands make networks on the switch that --socket
names, and put containers on it. The switch may be any user's: it needs no privilege. The plugin of a dockerd that runs
as root runs as root, since it makes devices in dockerd's network namespace; that of rootless Docker as the user.

Addresses are Docker's, names within Docker are answered by Docker. Networks take what "tapswitch network create" takes
for -o, and tapswitch.egress; endpoints take tapswitch.name, tapswitch.egress and tapswitch.link
(docker run --network name=NET,driver-opt=tapswitch.name=web). Without a name an endpoint is called by the first 12
digits of Docker's endpoint id. A host port that is left to be chosen (-p 80) is not shown by docker ps: Docker has no
way to ask for it; tapswitch port shows it.

Containers keep their interfaces over a restart of the plugin, of Docker with live-restore, and of the switch (whose
open connections are lost).

Rootless Docker finds the plugin by a spec file in ~/.local/lib/docker/plugins; Docker 20.10 does not look there, and
needs a name in its own /run/docker each time it has started:
  ln -s $XDG_RUNTIME_DIR/tapswitch/docker-tapswitch.sock /proc/$(cat $XDG_RUNTIME_DIR/docker.pid)/root/run/docker/plugins/tapswitch.sock`,
		Example: `  sudo tapswitch docker-plugin --socket $XDG_RUNTIME_DIR/tapswitch/tapswitch.sock
  docker network create -d tapswitch --subnet 10.1.1.0/24 --gateway 10.1.1.254 red
  docker run -d --network red -p 8080:80 --name web nginx
  docker run -d --network name=red,driver-opt=tapswitch.name=db --name db postgres
  tapswitch rule add --from container:db --to outside --action drop`,
		RunE: func(cmd *cobra.Command, _ []string) error { return dockerPlugin(cmd.Context(), f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.name, "name", "tapswitch", "the driver's `name` for docker network create -d")
	fl.StringVar(&f.listen, "listen", "", "`path` of the plugin's socket (default /run/docker/plugins/NAME.sock, rootless docker-NAME.sock beside the switch's)")
	fl.StringVar(&f.spec, "spec", "", "`path` of a file that tells Docker of the socket (default none, rootless ~/.local/lib/docker/plugins/NAME.spec)")
	fl.StringVar(&f.netns, "netns", "", "`path` of dockerd's network namespace (default that of the dockerd that calls)")
	return cmd
}

// pluginName is what Docker takes for a driver's name and finds as a file.
var pluginName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

func dockerPlugin(ctx context.Context, f pluginFlags) error {
	if !pluginName.MatchString(f.name) {
		return usageError{fmt.Errorf("--name %q: letters, digits and _ . -", f.name)}
	}
	c, err := connect()
	if err != nil {
		return err
	}
	if err := checkTun(); err != nil {
		return err
	}
	if err := f.complete(); err != nil {
		return err
	}
	l, err := dockerplugin.Inherited()
	if err == nil && l == nil {
		l, err = dockerplugin.Listen(f.listen)
	}
	if err != nil {
		return err
	}
	if f.spec != "" {
		if err := dockerplugin.WriteSpec(f.spec, l.Addr().String()); err != nil {
			l.Close()
			return err
		}
	}
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, stop := signal.NotifyContext(ctx, unix.SIGINT, unix.SIGTERM)
	defer stop()
	fmt.Printf("network driver %s at %s\n", f.name, l.Addr())
	p := dockerplugin.New(c, slog.New(slog.NewTextHandler(os.Stderr, nil)), dockerplugin.Options{
		Owner: l.Addr().String(), Netns: f.netns, UID: uint32(os.Geteuid())})
	return p.Serve(ctx, l)
}

// complete fills in where Docker looks.
func (f *pluginFlags) complete() error {
	dir, root, err := place.Runtime()
	switch {
	case err != nil:
		return err
	case f.listen != "":
		if f.listen, err = filepath.Abs(f.listen); err != nil {
			return err
		}
	case root:
		f.listen = "/run/docker/plugins/" + f.name + ".sock"
	default:
		f.listen = filepath.Join(dir, "docker-"+f.name+".sock")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("runtime directory: %w", err)
		}
	}
	if root {
		return nil
	}
	if f.spec == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return fmt.Errorf("spec file: %w", err)
		}
		f.spec = filepath.Join(home, ".local/lib/docker/plugins", f.name+".spec")
	}
	return nil
}
