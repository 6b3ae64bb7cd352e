package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"tapswitch/cmd/internal/install"
	"tapswitch/configs"
)

// installed is one thing that can be installed: which files it is, and what to
// type then.
type installed struct {
	name  string
	args  string // of the command, for its help
	short string
	long  string
	valid func() []string // what its arguments may be; nil: none are taken
	plan  func(in installing, args []string) (items []install.Item, next []string, err error)
}

// installing is for whom, and where.
type installing struct {
	system  bool
	dir     string // from --dir; "": the usual place
	program string // that is installed: this one
	root    *cobra.Command
}

// installs are all of them; install and uninstall have a command for each.
func installs() []installed {
	return []installed{
		{name: "links", args: "[NAME...]", short: "Names by which others call this program instead of their own", valid: func() []string { return linkNames(faces()) },
			long: `Links to this program by the names that its faces have, in a directory of their own: no program that is
installed is put in the shade. Each caller is told where to look; what to write there is printed.`,
			plan: func(in installing, args []string) ([]install.Item, []string, error) {
				return planLinks(in, faces(), "links", args)
			}},
		{name: "extcap", short: "Wireshark shows the switch among its interfaces",
			plan: func(in installing, args []string) ([]install.Item, []string, error) {
				return planLinks(in, faces(), "extcap", args)
			}},
		{name: "service", short: "systemd units: the first command starts the switch",
			long: `systemd units: a socket, whose first use starts the switch, and the service. With --user (the default but for
root) the switch is the user's, and ends with the user's last session unless lingering is on (loginctl enable-linger).`,
			plan: planService},
		{name: "completion", args: "[bash|zsh|fish...]", short: "Completion for shells", valid: func() []string { return []string{"bash", "zsh", "fish"} }, plan: planCompletion},
		{name: "apparmor", short: "The profile that lets this program make user namespaces on Ubuntu", plan: planAppArmor},
	}
}

// ownPath is where this program is, for others to find it there tomorrow.
func ownPath() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", err
	}
	if strings.Contains(path, "/go-build") && filepath.Base(filepath.Dir(path)) == "exe" {
		return "", errors.New("this program was built by go run and is gone when it ends: go build ./cmd/tapswitch, put it in its place, and call it there")
	}
	return path, nil
}

func dataHome() (string, error) {
	if d := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(d) {
		return d, nil
	}
	h, err := os.UserHomeDir()
	return filepath.Join(h, ".local", "share"), err
}

// planLinks is the links of the faces that what installs; args are names of
// them, none means all.
func planLinks(in installing, all []face, what string, args []string) (items []install.Item, next []string, err error) {
	dir := in.dir
	if dir == "" {
		if dir, err = in.linkDir(what); err != nil {
			return nil, nil, err
		}
	}
	for _, f := range all {
		if f.short == "" || f.installer() != what || len(args) > 0 && !slices.Contains(args, f.name) {
			continue
		}
		path := filepath.Join(dir, f.name)
		items = append(items, install.Item{Path: path, What: what, Link: in.program})
		if f.use != "" {
			next = append(next, f.name+": "+strings.ReplaceAll(f.use, "%s", path))
		}
	}
	if len(items) == 0 {
		return nil, nil, fmt.Errorf("this program has nothing to install there")
	}
	return items, next, nil
}

// installer is what installs a face.
func (f *face) installer() string {
	if f.with == "" {
		return "links"
	}
	return f.with
}

func linkNames(all []face) (names []string) {
	for _, f := range all {
		if f.short != "" && f.installer() == "links" {
			names = append(names, f.name)
		}
	}
	return names
}

func (in installing) linkDir(what string) (string, error) {
	if what == "extcap" {
		return in.extcapDir()
	}
	if in.system {
		return "/usr/local/lib/tapswitch", nil
	}
	h, err := os.UserHomeDir()
	return filepath.Join(h, ".local", "lib", "tapswitch"), err
}

// extcapDir is where Wireshark looks: all users' beside its own extcap programs,
// wherever its package has put them.
func (in installing) extcapDir() (string, error) {
	if !in.system {
		d, err := os.UserConfigDir()
		return filepath.Join(d, "wireshark", "extcap"), err
	}
	for _, pattern := range []string{"/usr/lib/*/wireshark/extcap", "/usr/lib/wireshark/extcap", "/usr/lib64/wireshark/extcap", "/usr/libexec/wireshark/extcap"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[0], nil
		}
	}
	return "", errors.New("the extcap directory of Wireshark is not found: say it with --dir (Wireshark shows it under Help, About, Folders)")
}

func planService(in installing, _ []string) (items []install.Item, next []string, err error) {
	whose, dir, systemctl := "user", in.dir, "systemctl --user"
	if in.system {
		whose, systemctl = "system", "sudo systemctl"
	}
	switch {
	case dir != "":
	case in.system:
		dir = "/etc/systemd/system"
	default:
		d, err := os.UserConfigDir()
		if err != nil {
			return nil, nil, err
		}
		dir = filepath.Join(d, "systemd", "user")
	}
	for _, name := range []string{"tapswitch.service", "tapswitch.socket"} {
		b, err := configs.Unit(whose, name, in.program)
		if err != nil {
			return nil, nil, err
		}
		items = append(items, install.Item{Path: filepath.Join(dir, name), What: "service", Data: b})
	}
	next = []string{systemctl + " daemon-reload", systemctl + " enable --now tapswitch.socket   # the first command starts the switch",
		systemctl + " enable --now tapswitch.service  # or: it runs from now on"}
	if !in.system {
		next = append(next, "loginctl enable-linger                             # lets it run without a session of yours, and from the machine's start")
	}
	return items, next, nil
}

func planCompletion(in installing, args []string) (items []install.Item, next []string, err error) {
	data, config := "/usr/local/share", "/etc"
	if !in.system {
		if data, err = dataHome(); err != nil {
			return nil, nil, err
		}
		if config, err = os.UserConfigDir(); err != nil {
			return nil, nil, err
		}
	}
	for _, s := range []struct {
		shell, dir, file string
		write            func(*bytes.Buffer) error
	}{
		{"bash", data + "/bash-completion/completions", "tapswitch", func(b *bytes.Buffer) error { return in.root.GenBashCompletionV2(b, true) }},
		{"zsh", data + "/zsh/site-functions", "_tapswitch", func(b *bytes.Buffer) error { return in.root.GenZshCompletion(b) }},
		{"fish", config + "/fish/completions", "tapswitch.fish", func(b *bytes.Buffer) error { return in.root.GenFishCompletion(b, true) }},
	} {
		if len(args) > 0 && !slices.Contains(args, s.shell) {
			continue
		}
		var b bytes.Buffer
		if err := s.write(&b); err != nil {
			return nil, nil, err
		}
		dir := s.dir
		if in.dir != "" {
			dir = in.dir
		}
		items = append(items, install.Item{Path: filepath.Join(dir, s.file), What: "completion", Data: b.Bytes()})
		if s.shell == "zsh" && !in.system {
			next = append(next, "zsh: fpath=("+dir+" $fpath) in ~/.zshrc, before compinit")
		}
	}
	return items, next, nil
}

func planAppArmor(in installing, _ []string) ([]install.Item, []string, error) {
	if !in.system {
		return nil, nil, errors.New("AppArmor's profiles are the machine's: sudo tapswitch install apparmor")
	}
	b, err := configs.AppArmor(in.program)
	if err != nil {
		return nil, nil, err
	}
	dir := in.dir
	if dir == "" {
		dir = "/etc/apparmor.d"
		if unix.Access(dir, unix.F_OK) != nil {
			return nil, nil, errors.New("this machine has no AppArmor (/etc/apparmor.d): no profile is needed")
		}
	}
	path := filepath.Join(dir, "tapswitch")
	return []install.Item{{Path: path, What: "apparmor", Data: b}}, []string{"sudo apparmor_parser -r " + path}, nil
}
