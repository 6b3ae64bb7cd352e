package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tapswitch/configs"
)

// newHome is a bench whose user has a home of its own and needs no namespaces.
func newHome(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir()}
	b.env = slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "XDG_") || strings.HasPrefix(kv, "HOME=") })
	b.env = append(b.env, "HOME="+b.dir)
	return b
}

func (b *bench) tree() (list []string) {
	_ = filepath.WalkDir(b.dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			list = append(list, strings.TrimPrefix(path, b.dir+"/"))
		}
		return nil
	})
	return list
}

func TestInstall(t *testing.T) {
	b := newHome(t)
	b.ok("install", "service", "--user", "--dry-run")
	b.ok("install", "completion", "bash", "--user", "--dry-run")
	if got := b.tree(); len(got) > 0 {
		t.Errorf("a dry run made %q", got)
	}
	out := b.ok("install", "service", "--user")
	for _, want := range []string{"daemon-reload", "tapswitch.socket", "enable-linger"} {
		if !strings.Contains(out, want) {
			t.Errorf("the next steps lack %s:\n%s", want, out)
		}
	}
	b.ok("install", "completion", "--user")
	b.ok("install", "completion", "--user") // again is no error
	want := []string{".config/fish/completions/tapswitch.fish", ".config/systemd/user/tapswitch.service", ".config/systemd/user/tapswitch.socket",
		".local/share/bash-completion/completions/tapswitch", ".local/share/tapswitch/installed.json", ".local/share/zsh/site-functions/_tapswitch"}
	if got := b.tree(); !slices.Equal(got, want) {
		t.Errorf("installed %q\nwant %q", got, want)
	}
	unit, _ := os.ReadFile(b.dir + "/.config/systemd/user/tapswitch.service")
	if !strings.Contains(string(unit), "ExecStart="+prog+" up\n") {
		t.Errorf("the unit does not start this program:\n%s", unit)
	}
	var rows []struct{ What, Path, State string }
	b.json(&rows, "install", "--user", "--json")
	if len(rows) != 5 || rows[0].What != "completion" || rows[0].State != "ok" {
		t.Errorf("the list: %+v", rows)
	}
	if err := os.WriteFile(b.dir+"/.config/systemd/user/tapswitch.service", []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := b.ok("install", "--user"); !strings.Contains(out, "changed") {
		t.Errorf("the list does not tell what was changed:\n%s", out)
	}
	b.fails(exitFailed, []string{"changed since"}, "install", "service", "--user")
	b.ok("uninstall", "completion", "--user")
	b.ok("uninstall", "--user")
	if got := b.tree(); !slices.Equal(got, []string{".config/systemd/user/tapswitch.service"}) {
		t.Errorf("left: %q", got)
	}
	b.fails(exitUsage, []string{"tcsh"}, "install", "completion", "tcsh")
	b.fails(exitUsage, []string{"nothing"}, "uninstall", "nothing")
	b.fails(exitUsage, []string{"user", "system"}, "install", "service", "--user", "--system")
	b.fails(exitFailed, []string{"sudo"}, "install", "apparmor", "--user")
}

func TestInstallDir(t *testing.T) {
	b := newHome(t)
	b.ok("install", "service", "--user", "--dir", "units")
	b.ok("install", "apparmor", "--dry-run", "--system", "--dir", "profiles")
	for _, name := range []string{"tapswitch.service", "tapswitch.socket"} {
		if _, err := os.Stat(filepath.Join(b.dir, "units", name)); err != nil {
			t.Error(err)
		}
	}
}

func TestPlanLinks(t *testing.T) {
	all := []face{{name: "tapswitch-worker"}, {name: "slirp4netns", short: "for RootlessKit", use: "rootlesskit --slirp4netns-binary %s"},
		{name: "tapswitch-cni", short: "for podman"}, {name: "tapswitch-extcap", short: "for Wireshark", with: "extcap"}}
	if got := linkNames(all); !slices.Equal(got, []string{"slirp4netns", "tapswitch-cni"}) {
		t.Errorf("names: %q", got)
	}
	for _, tt := range []struct {
		what string
		args []string
		want []string
		next int
	}{
		{"links", nil, []string{"/d/slirp4netns", "/d/tapswitch-cni"}, 1},
		{"links", []string{"tapswitch-cni"}, []string{"/d/tapswitch-cni"}, 0},
		{"extcap", nil, []string{"/d/tapswitch-extcap"}, 0},
	} {
		items, next, err := planLinks(installing{dir: "/d", program: "/opt/tapswitch"}, all, tt.what, tt.args)
		var got []string
		for _, i := range items {
			got = append(got, i.Path)
			if i.Link != "/opt/tapswitch" || i.What != tt.what {
				t.Errorf("%+v", i)
			}
		}
		if err != nil || !slices.Equal(got, tt.want) || len(next) != tt.next {
			t.Errorf("%s %q: %q, next %q, %v", tt.what, tt.args, got, next, err)
		}
		if tt.next > 0 && next[0] != "slirp4netns: rootlesskit --slirp4netns-binary /d/slirp4netns" {
			t.Errorf("next: %q", next)
		}
	}
	if _, _, err := planLinks(installing{dir: "/d"}, all[:1], "links", nil); err == nil {
		t.Error("links were made without a face")
	}
}

// TestFaces holds the table: names are told apart, and each has a program.
func TestFaces(t *testing.T) {
	seen := map[string]bool{"tapswitch": true}
	for _, f := range faces() {
		if seen[f.name] || f.main == nil || strings.Contains(f.name, "/") {
			t.Errorf("face %q: twice, without a program, or no name", f.name)
		}
		seen[f.name] = true
	}
}

func TestFilesForProgram(t *testing.T) {
	for _, whose := range []string{"user", "system"} {
		for _, name := range []string{"tapswitch.service", "tapswitch.socket"} {
			b, err := configs.Unit(whose, name, "/opt/my tools/50%/tapswitch")
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(b), "/usr/bin/") || strings.HasSuffix(name, ".service") && !strings.Contains(string(b), `ExecStart=/opt/my\x20tools/50%%/tapswitch up`) {
				t.Errorf("%s of %s names another program:\n%s", name, whose, b)
			}
		}
	}
	b, err := configs.AppArmor("/opt/my tools/tapswitch")
	if err != nil || !strings.Contains(string(b), `profile tapswitch "/opt/my tools/tapswitch" flags=(unconfined)`) {
		t.Errorf("%s, %v", b, err)
	}
}
