package main

import "testing"

func TestExitCodes(t *testing.T) {
	b := newBench(t)
	plain := b.write("plain", "not a program\n")
	b.fails(4, []string{"no switch is running", "tapswitch up"}, "ps")
	b.fails(4, []string{"no switch is running"}, "run", "-d", "--", prog, "hold")
	b.fails(4, nil, "down")
	b.up("--ephemeral")
	b.ok("run", "-d", "--name", "there", "--", prog, "hold")
	run := func(flags ...string) []string {
		return append(append([]string{"run", "--rm"}, flags...), "--", prog, "exit", "0")
	}
	for _, c := range []struct {
		name  string
		code  int
		words []string
		args  []string
	}{
		{"success", 0, nil, run()},
		{"the command's own", 9, nil, []string{"run", "--", prog, "exit", "9"}},
		{"the command's own, of exec", 9, nil, []string{"exec", "there", "--", prog, "exit", "9"}},
		{"a signal", 128 + 9, nil, []string{"run", "--init", "--", prog, "die", "9"}},
		{"a signal, of exec", 128 + 15, nil, []string{"exec", "there", "sh", "-c", "kill -15 $$"}},
		{"not there", 127, []string{"alpine", "not an image"}, []string{"run", "alpine"}},
		{"not there, by path", 127, []string{"/no/such"}, []string{"run", "--", "/no/such"}},
		{"not there, of exec", 127, []string{"nope"}, []string{"exec", "there", "nope"}},
		{"not executable", 126, []string{plain}, []string{"run", "--", plain}},
		{"not executable, of exec", 126, []string{plain}, []string{"exec", "there", plain}},
		{"a directory", 126, nil, []string{"run", "--", "/tmp"}},
		{"unknown network", 125, []string{"nowhere", "network ls"}, run("--network", "nowhere")},
		{"outside of the subnet", 125, []string{"10.9.9.9", "172.17.0.0/16"}, run("--network", "bridge:ip=10.9.9.9")},
		{"no address", 125, []string{"172.17"}, run("--network", "bridge:ip=172.17")},
		{"taken", 125, []string{"172.17.0.2", "in use"}, run("--network", "bridge:ip=172.17.0.2")},
		{"the gateway's", 125, []string{"172.17.0.1"}, run("--network", "bridge:ip=172.17.0.1")},
		{"no IPv6 there", 125, []string{"fd00::9"}, run("--network", "bridge:ip6=fd00::9")},
		{"multicast MAC", 125, []string{"03:00:00:00:00:01"}, run("--network", "bridge:mac=03:00:00:00:00:01")},
		{"name taken", 125, []string{"there", "rm -f"}, run("--name", "there")},
		{"bad name", 125, []string{"no/name"}, run("--name", "no/name")},
		{"bad port", 125, []string{"70000"}, run("-p", "70000:80")},
		{"no such directory", 125, []string{"/no/dir"}, run("-w", "/no/dir")},
		{"no command", 2, []string{"command", "--help"}, []string{"run"}},
		{"unknown command", 2, []string{"frob"}, []string{"frob"}},
		{"misspelled command", 2, []string{"did you mean \"status\""}, []string{"statsu"}},
		{"unknown flag", 2, []string{"--nett"}, []string{"run", "--nett", "bridge"}},
		{"bad value of a flag", 2, []string{"off or on"}, run("--offload", "maybe")},
		{"unknown key of a network", 2, []string{"\"color\""}, run("--network", "bridge:color=red")},
		{"too many arguments", 2, nil, []string{"ps", "there"}},
		{"join without a target", 2, []string{"--pid", "--netns"}, []string{"join", "x"}},
		{"join with two", 2, []string{"--pid", "--netns"}, []string{"join", "x", "--pid", "1", "--netns", "/y"}},
		{"no such container", 3, []string{"nobody"}, []string{"inspect", "nobody"}},
		{"no such container to run in", 3, []string{"nobody"}, []string{"exec", "nobody", "true"}},
		{"no such container to stop", 3, []string{"nobody"}, []string{"stop", "nobody"}},
		{"no such container to wait for", 3, []string{"nobody"}, []string{"wait", "nobody"}},
		{"no such network", 3, []string{"nowhere"}, []string{"network", "inspect", "nowhere"}},
		{"is running", 1, []string{"there", "rm -f"}, []string{"rm", "there"}},
		{"was not joined", 1, []string{"there", "not joined"}, []string{"leave", "there"}},
		{"no signal", 1, []string{"SIGWHAT"}, []string{"kill", "-s", "SIGWHAT", "there"}},
		{"no such process", 1, []string{"process"}, []string{"join", "x", "--pid", "4194304"}},
		{"no namespace", 1, []string{plain, "--pid"}, []string{"join", "x", "--netns", plain}},
		{"runs already", 1, []string{"running already", b.socket, "tapswitch down"}, []string{"up"}},
		{"runs already, behind", 1, []string{"running already"}, []string{"up", "-d"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := *b
			in.t = t
			in.fails(c.code, c.words, c.args...)
		})
	}
	// Nothing that failed has left anything.
	var list []struct{ Name, State string }
	b.json(&list, "ps", "-a", "--json")
	for _, c := range list {
		if c.State != "exited" && c.Name != "there" {
			t.Errorf("left behind: %+v", c)
		}
	}
}

// A command without a switch gets a private one, which goes with it.
func TestPrivateSwitch(t *testing.T) {
	b := newBench(t)
	for _, c := range []struct {
		name string
		code int
		args []string
	}{
		{"success", 0, []string{"exit", "0"}},
		{"its exit code", 5, []string{"exit", "5"}},
		{"its network", 0, []string{"ping", "172.17.0.1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := *b
			in.t = t
			in.fails(c.code, nil, append([]string{"run", "--", prog}, c.args...)...)
		})
	}
	b.fails(127, []string{"nope"}, "run", "nope")
	b.fails(125, []string{"nowhere"}, "run", "--net", "nowhere", "--", prog, "exit", "0")
	b.fails(4, nil, "status")
}
