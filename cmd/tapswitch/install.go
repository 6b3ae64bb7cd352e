package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"tapswitch/cmd/internal/install"
)

type installFlags struct {
	dir          string
	user, system bool
	dry, asJSON  bool
}

func (f *installFlags) add(cmd *cobra.Command, dir bool) {
	fl := cmd.Flags()
	if dir {
		fl.StringVar(&f.dir, "dir", "", "into this `DIR`ectory instead of the usual one")
	}
	fl.BoolVar(&f.user, "user", false, "for this user (the default but for root)")
	fl.BoolVar(&f.system, "system", false, "for all users (root's default)")
	fl.BoolVar(&f.dry, "dry-run", false, "say what would be done, and do nothing")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		if f.user && f.system {
			return usageError{errors.New("--user and --system exclude each other")}
		}
		return nil
	}
}

// forAll says whether it is for all users.
func (f *installFlags) forAll() bool { return f.system || !f.user && os.Geteuid() == 0 }

// record opens the list of what was installed.
func (f *installFlags) record() (*install.Record, error) {
	if f.forAll() {
		return install.Open("/var/lib/tapswitch/installed.json")
	}
	data, err := dataHome()
	if err != nil {
		return nil, err
	}
	return install.Open(filepath.Join(data, "tapswitch", "installed.json"))
}

func installCommand() *cobra.Command {
	var f installFlags
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Install links, units and the like; without a word: list what was installed",
		Long: `Install what other programs look for. Without a word it lists what was installed, for this user or, as root or with
--system, for all. What it makes it writes down; uninstall removes that and nothing else.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			r, err := f.record()
			if err != nil {
				return err
			}
			return listInstalled(r.List(), f.asJSON)
		},
	}
	f.add(cmd, false)
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "as JSON")
	for _, x := range installs() {
		cmd.AddCommand(installOne(x))
	}
	return cmd
}

func installOne(x installed) *cobra.Command {
	var f installFlags
	cmd := &cobra.Command{Use: strings.TrimSpace(x.name + " " + x.args), Short: x.short, Long: x.long, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			program, err := ownPath()
			if err != nil {
				return err
			}
			in := installing{system: f.forAll(), program: program, root: cmd.Root()}
			if f.dir != "" {
				if in.dir, err = filepath.Abs(f.dir); err != nil {
					return err
				}
			}
			items, next, err := x.plan(in, args)
			if err != nil {
				return err
			}
			r, err := f.record()
			if err != nil {
				return err
			}
			if err := r.Put(items, f.dry, said(f.dry)); err != nil {
				return permission(err, in.system)
			}
			if len(next) > 0 {
				fmt.Println("next:\n  " + strings.Join(next, "\n  "))
			}
			return nil
		},
	}
	if x.valid != nil {
		cmd.Args = func(_ *cobra.Command, args []string) error {
			for _, a := range args {
				if !slices.Contains(x.valid(), a) {
					return usageError{fmt.Errorf("%q cannot be installed here: there are %s", a, strings.Join(x.valid(), ", "))}
				}
			}
			return nil
		}
		cmd.ValidArgsFunction = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return x.valid(), cobra.ShellCompDirectiveNoFileComp
		}
	}
	f.add(cmd, true)
	_ = cmd.MarkFlagDirname("dir")
	return cmd
}

func uninstallCommand() *cobra.Command {
	var f installFlags
	var names []string
	for _, x := range installs() {
		names = append(names, x.name)
	}
	cmd := &cobra.Command{
		Use:       "uninstall [" + strings.Join(names, "|") + "]",
		Short:     "Remove what install has made, and nothing else",
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		ValidArgs: names,
		RunE: func(_ *cobra.Command, args []string) error {
			r, err := f.record()
			if err != nil {
				return err
			}
			what := ""
			if len(args) > 0 {
				what = args[0]
			}
			return permission(r.Remove(what, f.dry, said(f.dry)), f.forAll())
		},
	}
	f.add(cmd, false)
	return cmd
}

func said(dry bool) func(string) {
	return func(text string) {
		if dry {
			text = "would: " + text
		}
		fmt.Println(text)
	}
}

// permission adds the next step to a refusal.
func permission(err error, system bool) error {
	if errors.Is(err, os.ErrPermission) && system && os.Geteuid() != 0 {
		return fmt.Errorf("%w (for all users it takes root: sudo; for you alone: --user)", err)
	}
	return err
}

func listInstalled(list []install.Made, asJSON bool) error {
	type row struct {
		install.Made
		State string `json:"state"`
	}
	rows := []row{}
	for _, m := range list {
		rows = append(rows, row{m, m.State()})
	}
	if asJSON {
		return printJSON(rows)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "WHAT\tPATH\tSTATE")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\n", r.What, r.Path, r.State)
	}
	return w.Flush()
}
