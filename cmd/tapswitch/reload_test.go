package main

import (
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const reloadBefore = `
networks:
  - {name: bridge, subnet: 172.17.0.0/16}
  - {name: bridge2, subnet: 172.18.0.0/16}
containers:
  - {name: a, networks: [bridge], ip: 172.17.0.2}
  - {name: b, networks: [bridge], ip: 172.17.0.3, publish: ["80"]}
  - {name: c, networks: [bridge2], ip: 172.18.0.2}
`

// reloaded has c with another address, d instead of nothing, a third network,
// and a and b as they were, in other lines.
const reloadAfter = `
networks:
  - {name: new, subnet: 172.19.0.0/16}
  - {name: bridge, subnet: 172.17.0.0/16}
  - {name: bridge2, subnet: 172.18.0.0/16, mtu: 1400}

containers:
  - {name: d, networks: [new], ip: 172.19.0.2}
  - {name: c, networks: [bridge2], ip: 172.18.0.9}
  - {name: b, networks: [bridge], ip: 172.17.0.3, publish: ["80"]}
  - {name: a, networks: [bridge], ip: 172.17.0.2}
`

// conversation holds a connection from a to b and one from the host to b's
// published port, and says whether both go on.
type conversation struct {
	t      *testing.T
	within *proc
	host   net.Conn
	said   int
}

func converse(b *bench) *conversation {
	b.t.Helper()
	b.start("exec", "b", "--", prog, "serve", "80").expect("listening")
	k := &conversation{t: b.t, within: b.start("exec", "-i", "a", "--", prog, "chat", "172.17.0.3:80")}
	if l := k.within.line(); !strings.HasPrefix(l, "from 172.17.0.2:") {
		b.t.Fatalf("a hears %q", l)
	}
	host, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", itoa(b.port("b", "tcp", 80))))
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { host.Close() })
	_ = host.SetDeadline(time.Now().Add(patience))
	k.host = host
	k.read("from 172.17.0.1:")
	return k
}

func (k *conversation) read(want string) {
	k.t.Helper()
	buf := make([]byte, 256)
	n, err := k.host.Read(buf)
	if err != nil || !strings.HasPrefix(string(buf[:n]), want) {
		k.t.Fatalf("the host hears %q (%v), want %q", buf[:n], err, want)
	}
}

// goesOn fails the test if one of the connections does not carry another line.
func (k *conversation) goesOn() {
	k.t.Helper()
	k.said++
	text := "line " + itoa(k.said)
	if got := k.within.say(text); got != text {
		k.t.Fatalf("a says %q to b and hears %q", text, got)
	}
	if _, err := k.host.Write([]byte(text)); err != nil {
		k.t.Fatal(err)
	}
	k.read(text)
}

func TestReload(t *testing.T) {
	for _, how := range []string{"reload", "SIGHUP", "--watch"} {
		t.Run(how, func(t *testing.T) {
			b := newBench(t)
			file := b.write("c.yaml", reloadBefore)
			args := []string{"-c", file}
			if how == "--watch" {
				args = append(args, how)
			}
			up := b.up(args...)
			b.ok("run", "-d", "--name", "mine", "--network", "bridge:ip=172.17.0.9", "--", prog, "hold")
			k := converse(b)
			apply := func(text string) {
				t.Helper()
				up.errs.forget()
				b.write("new", text)
				if err := os.Rename(b.dir+"/new", file); err != nil { // as editors do
					t.Fatal(err)
				}
				switch how {
				case "reload":
					b.ok("reload")
					return
				case "SIGHUP":
					up.signal(unix.SIGHUP)
				}
				up.errs.await(t, "configuration applied")
			}
			kept := b.inspect("a").ID + b.inspect("b").ID + b.inspect("mine").ID
			apply(reloadAfter)
			k.goesOn()
			if got := b.inspect("a").ID + b.inspect("b").ID + b.inspect("mine").ID; got != kept {
				t.Error("a container that did not change was made anew")
			}
			if got := b.inspect("c").Networks[0].IP + " " + b.inspect("d").Networks[0].IP; got != "172.18.0.9 172.19.0.2" {
				t.Errorf("c and d have %s", got)
			}
			if s := b.show("exec", "d", prog, "show"); !strings.Contains(s.Resolv, "172.19.0.1") {
				t.Errorf("d: %+v", s)
			}
			apply(reloadBefore)
			k.goesOn()
			b.fails(3, nil, "inspect", "d")
			b.fails(3, nil, "network", "inspect", "new")
			if got := b.inspect("c").Networks[0].IP; got != "172.18.0.2" {
				t.Errorf("c has %s", got)
			}
			if s := b.status(); s.ConfigError != "" || s.Config != file {
				t.Errorf("status: %s, %s", s.Config, s.ConfigError)
			}
		})
	}
}

// A configuration that cannot be is named, here and in status, and changes
// nothing.
func TestReloadRefused(t *testing.T) {
	b := newBench(t)
	file := b.write("c.yaml", reloadBefore)
	up := b.up("-c", file)
	b.ok("run", "-d", "--name", "mine", "--network", "bridge:ip=172.17.0.9", "--", prog, "hold")
	k := converse(b)
	before := b.ok("ps", "--json") + b.ok("network", "ls", "--json") + b.ok("config", "show")
	for _, c := range []struct {
		name  string
		text  string
		words []string
	}{
		{"no YAML", "networks: [", []string{file}},
		{"unknown key", strings.Replace(reloadAfter, "mtu", "mut", 1), []string{file + ":5", "mut", "mtu"}},
		{"outside of the subnet", strings.Replace(reloadAfter, "172.18.0.9", "172.1.0.9", 1), []string{file + ":9", "172.1.0.9", "bridge2"}},
		{"taken twice", strings.Replace(reloadAfter, "172.17.0.3", "172.17.0.2", 1), []string{"172.17.0.2"}},
		{"overlapping", strings.Replace(reloadAfter, "172.19.0.0", "172.18.0.0", 1), []string{"overlap"}},
		{"network in use by another's", strings.Replace(reloadAfter, "172.17.0.0/16", "172.17.0.0/17", 1), []string{"bridge", "mine"}},
		{"name in use by another's", reloadAfter + "  - {name: mine}\n", []string{"mine"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := *b
			in.t = t
			in.write("c.yaml", c.text)
			in.fails(1, c.words, "reload")
			up.errs.forget()
			up.signal(unix.SIGHUP)
			for _, w := range c.words {
				up.errs.await(t, w)
			}
			said := in.status().ConfigError
			for _, w := range c.words {
				if !strings.Contains(said, w) {
					t.Errorf("status says %q, want %q in it", said, w)
				}
			}
			if got := in.ok("ps", "--json") + in.ok("network", "ls", "--json") + in.ok("config", "show"); got != before {
				t.Errorf("it changed something:\n%s\nbefore:\n%s", got, before)
			}
			k.goesOn()
		})
	}
	b.write("c.yaml", reloadBefore)
	b.ok("reload")
	if s := b.status(); s.ConfigError != "" {
		t.Errorf("a good file does not clear the error: %s", s.ConfigError)
	}
}

// A bad file makes nothing at all.
func TestUpWithBadConfig(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct {
		name, text string
		words      []string
	}{
		{"unknown key", "networks:\n  - {name: x, subnet: 10.0.0.0/8, colour: red}\n", []string{"c.yaml:2", "colour"}},
		{"wrong value", "networks:\n  - {name: x, subnet: 10.0.0.0/8, mtu: 100}\n", []string{"c.yaml:2", "mtu", "1280"}},
		{"unknown network", "containers:\n  - {name: a, networks: [elsewhere]}\n", []string{"c.yaml:2", "elsewhere"}},
		{"command not there", "containers:\n  - {name: a, command: [/no/such]}\n", []string{"container a", "/no/such"}},
		{"no such namespace", "containers:\n  - {name: a, netns: /no/such}\n", []string{"container a", "/no/such"}},
		{"no such process", "containers:\n  - {name: a, pid: 4194304}\n", []string{"container a", "4194304"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := *b
			in.t = t
			file := in.write("c.yaml", c.text)
			in.fails(1, c.words, "up", "-c", file)
			in.fails(1, c.words, "up", "-d", "-c", file)
			in.fails(4, nil, "status")
			if _, err := os.Stat(in.socket); err == nil {
				t.Error("the control socket is left")
			}
			if entries, _ := os.ReadDir(in.dir + "/state/tapswitch"); len(entries) > 0 {
				t.Errorf("state is left: %v", entries)
			}
		})
	}
	b.fails(1, []string{"no/such.yaml"}, "up", "-c", b.dir+"/no/such.yaml")
	b.fails(2, []string{"exclude"}, "up", "--demo", "-c", b.write("c.yaml", ""))
}
