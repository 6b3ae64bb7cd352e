package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"tapswitch/cmd/internal/hook"
)

func hookCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hook",
		Short: "OCI hooks: containers of podman on the switch as they start",
		Long: `OCI hooks put containers of podman --network none on the switch as they start: with names, published ports and the
client's address kept, and without root. "hook config" writes the files that tell podman so.

  tapswitch up -d
  tapswitch hook config --dir ~/.config/containers/oci/hooks.d
  podman --hooks-dir ~/.config/containers/oci/hooks.d run -d --name web --network none \
      --annotation tapswitch.network=bridge --annotation tapswitch.publish=8080:80 IMAGE

hooks_dir in the [engine] section of containers.conf takes the place of --hooks-dir. podman discards -p on --network
none: write tapswitch.publish. Annotations, with semicolons where other commands have commas (podman before version 5
would end an annotation there):

  tapswitch.network=NET[;ip=A;mac=M;alias=N;ifname=I][;NET...]   what run --network takes
  tapswitch.publish=[HOSTIP:][HOSTPORT]:PORT[/udp][;...]          what run -p takes
  tapswitch.alias=NAME[;...]                                     further names, on each network
  tapswitch.name=NAME                                            in place of podman's
  tapswitch.egress, .rate-in, .rate-out, .delay, .loss, .flows, .spoof, .offload     as the flags of run

Those of an image count, too, as podman merges them: look at what you run.`,
	}
	for _, s := range hook.Stages {
		cmd.AddCommand(&cobra.Command{
			Use: s, Short: "Serve the hook " + s, Hidden: true, Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				c, err := connect()
				if err != nil {
					return err
				}
				return hook.Run(s, c, os.Stdin, os.Stdout)
			},
		})
	}
	cmd.AddCommand(hookConfigCommand())
	return cmd
}

func hookConfigCommand() *cobra.Command {
	var dir string
	var remove bool
	cmd := &cobra.Command{
		Use:   "config [--dir DIR]",
		Short: "Print or write podman's hook files",
		Long: `Print the hook files for podman, or write them into a directory. They name this program and the switch's socket,
since a hook has neither the user's PATH nor XDG_RUNTIME_DIR: write them again when either moves.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return hookConfig(dir, remove) },
	}
	cmd.Flags().StringVar(&dir, "dir", "", "write them into `DIR`")
	cmd.Flags().BoolVar(&remove, "remove", false, "remove them from --dir instead")
	_ = cmd.MarkFlagDirname("dir")
	return cmd
}

func hookConfig(dir string, remove bool) error {
	c, err := connect()
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("where this program is: %w", err)
	}
	switch {
	case remove && dir == "":
		return usageError{fmt.Errorf("--remove needs --dir")}
	case remove:
		gone, err := hook.Uninstall(dir)
		for _, p := range gone {
			fmt.Println("removed " + p)
		}
		return err
	case dir == "":
		files, err := hook.Files(self, c.Socket)
		if err != nil {
			return err
		}
		for _, s := range hook.Stages {
			os.Stdout.Write(files["tapswitch-"+strings.ToLower(s)+".json"])
		}
		return nil
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	paths, err := hook.Install(dir, self, c.Socket)
	for _, p := range paths {
		fmt.Println("wrote " + p)
	}
	if err != nil {
		return err
	}
	fmt.Printf("podman --hooks-dir %s run --network none --annotation tapswitch.network=bridge --annotation tapswitch.publish=8080:80 IMAGE\n", dir)
	return nil
}
