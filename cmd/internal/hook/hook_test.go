package hook

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/client"
	"tapswitch/cmd/internal/porter"
)

func TestRequest(t *testing.T) {
	for _, c := range []struct {
		name string
		ann  map[string]string
		want *api.Reserve
		err  string
	}{
		{"none of ours", map[string]string{"io.podman.annotations.init": "FALSE"}, nil, ""},
		{"only others of ours", map[string]string{"tapswitch.publish": "80"}, nil, ""},
		{"a network", map[string]string{"tapswitch.network": "bridge"}, &api.Reserve{Networks: []api.Attachment{{Network: "bridge"}}}, ""},
		{"the default network", map[string]string{"tapswitch.network": ""}, &api.Reserve{Networks: []api.Attachment{{}}}, ""},
		{"all", map[string]string{"tapswitch.network": "a:ip=172.17.0.9,alias=x;b", "tapswitch.publish": "8080:80, 127.0.0.1:53:53/udp", "tapswitch.alias": "db,sql", "tapswitch.name": "web",
			"tapswitch.egress": "internet", "tapswitch.rate-in": "1mbit", "tapswitch.rate-out": "2mbit", "tapswitch.delay": "1ms", "tapswitch.loss": "1%", "tapswitch.flows": "7",
			"tapswitch.spoof": "allow", "tapswitch.offload": "off"},
			&api.Reserve{Name: "web", Networks: []api.Attachment{{Network: "a", IP: "172.17.0.9", Aliases: []string{"x", "db", "sql"}}, {Network: "b", Aliases: []string{"db", "sql"}}},
				Publish: []string{"8080:80", "127.0.0.1:53:53/udp"}, Egress: "internet", Spoof: true, PlainTAP: true,
				Shape: api.Shape{RateIn: "1mbit", RateOut: "2mbit", Delay: "1ms", Loss: "1%", Flows: 7}}, ""},
		{"without commas", map[string]string{"tapswitch.network": "a;ip=172.17.0.9;alias=x;b:alias=y;alias=z c", "tapswitch.publish": "80;81 82"},
			&api.Reserve{Networks: []api.Attachment{{Network: "a", IP: "172.17.0.9", Aliases: []string{"x"}}, {Network: "b", Aliases: []string{"y", "z"}}, {Network: "c"}},
				Publish: []string{"80", "81", "82"}}, ""},
		{"misspelt", map[string]string{"tapswitch.network": "a", "tapswitch.publsh": "80"}, nil, "unknown annotation tapswitch.publsh"},
		{"a key that is none", map[string]string{"tapswitch.network": "a:mask=1"}, nil, `annotation tapswitch.network=a:mask=1: a: unknown key "mask"`},
		{"no number", map[string]string{"tapswitch.network": "a", "tapswitch.flows": "many"}, nil, "annotation tapswitch.flows=many"},
		{"neither on nor off", map[string]string{"tapswitch.network": "a", "tapswitch.offload": "yes"}, nil, "off or on"},
		{"podman's business", map[string]string{"tapswitch.network": "host"}, nil, "--network"},
		{"podman's business, too", map[string]string{"tapswitch.network": "container:web"}, nil, "--network"},
	} {
		got, err := request(c.ann)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: error %v, want %q in it", c.name, err, c.err)
			}
			continue
		}
		if c.want != nil {
			c.want.Origin, c.want.Lifetime = "hook", "pidfd"
		}
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v (%v), want %+v", c.name, got, err, c.want)
		}
	}
}

const id = "ae2e84e2e529588e4085644fc4b4df1c23efd460bd480e4b87a1d9aeaa97b1e1"

// podmanConfig is what podman 4.3.1 writes for --network none, without what does
// not matter here.
func podmanConfig(hosts string) string {
	own := filepath.Dir(hosts)
	return `{"ociVersion":"1.0.2-dev","process":{"terminal":false,"capabilities":{"bounding":["CAP_CHOWN"]},"rlimits":[{"type":"RLIMIT_NOFILE","hard":18446744073709551615,"soft":1}]},
	"hostname":"ae2e84e2e529","mounts":[
	{"destination":"/proc","type":"proc","source":"proc","options":["nosuid","noexec","nodev"]},
	{"destination":"/etc/hosts","type":"bind","source":"` + hosts + `","options":["bind","rprivate"]},
	{"destination":"/run/.containerenv","type":"bind","source":"` + own + `/.containerenv","options":["bind","rprivate"]}],
	"annotations":{"io.container.manager":"libpod","tapswitch.network":"bridge"},"linux":{"namespaces":[{"type":"network"}],"future":{"key":[1,2.5]}}}`
}

func podmansFiles(t *testing.T, hosts string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), id, "userdata")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/hosts", []byte(hosts), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir + "/hosts"
}

const podmanHosts = "1.2.3.4\tfoo\n127.0.0.1\tlocalhost\n192.0.2.2\thost.containers.internal\n127.0.0.1\tae2e84e2e529 web1\n"

func TestPrecreate(t *testing.T) {
	hosts := podmansFiles(t, podmanHosts)
	socket := filepath.Join(t.TempDir(), "s")
	config := podmanConfig(hosts)
	out, err := precreate(socket, []byte(config))
	if err != nil {
		t.Fatal(err)
	}
	var before, after map[string]any
	if err := json.Unmarshal([]byte(config), &before); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &after); err != nil {
		t.Fatal(err)
	}
	mounts := map[string]string{}
	for _, m := range after["mounts"].([]any) {
		m := m.(map[string]any)
		at := m["destination"].(string)
		if mounts[at] != "" {
			t.Errorf("%s is mounted twice", at)
		}
		mounts[at] = m["source"].(string)
	}
	dir := socket + ".hooks/" + id
	want := map[string]string{"/proc": "proc", "/run/.containerenv": filepath.Dir(hosts) + "/.containerenv", "/etc/hosts": dir + "/hosts", "/etc/resolv.conf": dir + "/resolv.conf"}
	if !reflect.DeepEqual(mounts, want) {
		t.Errorf("mounts %v, want %v", mounts, want)
	}
	delete(before, "mounts")
	delete(after, "mounts")
	if !reflect.DeepEqual(before, after) {
		t.Errorf("the rest was %v and is %v", before, after)
	}
	if !strings.Contains(string(out), "18446744073709551615") {
		t.Error("a number of 64 bits is another now")
	}
	n, err := record{dir}.load()
	if err != nil || n != (note{Name: "web1", Hostname: "ae2e84e2e529", Extra: "1.2.3.4\tfoo\n192.0.2.2\thost.containers.internal\n"}) {
		t.Errorf("note %+v (%v)", n, err)
	}
	for _, f := range []string{"hosts", "resolv.conf"} {
		if st, err := os.Stat(dir + "/" + f); err != nil || st.Mode().Perm() != 0o644 {
			t.Errorf("%s: %v (%v)", f, st, err)
		}
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("the record: %v (%v)", st, err)
	}
	// The same file: the container has it mounted.
	keep, err := os.Open(dir + "/hosts")
	if err != nil {
		t.Fatal(err)
	}
	defer keep.Close()
	if err := (record{dir}).write("hosts", "text\n"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 16)
	if k, _ := keep.Read(b); string(b[:k]) != "text\n" {
		t.Errorf("through an old descriptor it is %q", b[:k])
	}
}

// What the user has mounted there, or does not want, stays so.
func TestPrecreateLeavesAlone(t *testing.T) {
	hosts := podmansFiles(t, podmanHosts)
	for _, c := range []struct {
		name, config string
		hosts        string // whose
		resolv       bool   // ours
	}{
		{"hosts of the user", strings.Replace(podmanConfig(hosts), hosts, "/home/me/hosts", 1), "/home/me/hosts", true},
		{"no hosts", strings.Replace(podmanConfig(hosts), `{"destination":"/etc/hosts","type":"bind","source":"`+hosts+`","options":["bind","rprivate"]},`, "", 1), "", true},
		{"resolv.conf of the user", strings.Replace(podmanConfig(hosts), `{"destination":"/proc"`, `{"destination":"/etc/resolv.conf","source":"/home/me/resolv"},{"destination":"/proc"`, 1), "ours", false},
	} {
		socket := filepath.Join(t.TempDir(), "s")
		out, err := precreate(socket, []byte(c.config))
		if err != nil {
			t.Fatal(err)
		}
		var s spec
		if err := json.Unmarshal(out, &s); err != nil {
			t.Fatal(err)
		}
		source := map[string]string{}
		for _, m := range s.Mounts {
			source[m.Destination] = m.Source
		}
		if c.hosts == "ours" {
			c.hosts = socket + ".hooks/" + id + "/hosts"
		}
		if source["/etc/hosts"] != c.hosts || (source["/etc/resolv.conf"] == socket+".hooks/"+id+"/resolv.conf") != c.resolv {
			t.Errorf("%s: mounts %v", c.name, source)
		}
	}
}

// What concerns no container of ours passes as it came; so does what is wrong,
// since only the next stage is heard.
func TestPrecreatePasses(t *testing.T) {
	hosts := podmansFiles(t, podmanHosts)
	socket := filepath.Join(t.TempDir(), "s")
	for name, config := range map[string]string{
		"not ours":            strings.Replace(podmanConfig(hosts), "tapswitch.network", "other", 1),
		"a wrong annotation":  strings.Replace(podmanConfig(hosts), "tapswitch.network\":\"bridge", "tapswitch.network\":\"a:b=c", 1),
		"hosts that are gone": strings.Replace(podmanConfig(hosts), "userdata/hosts", "userdata/gone/userdata/hosts", 1),
	} {
		out, err := precreate(socket, []byte(config))
		if err != nil || string(out) != config {
			t.Errorf("%s: it is another now (%v)", name, err)
		}
	}
	n, err := record{socket + ".hooks/" + id}.load()
	if err != nil || !strings.Contains(n.Problem, "hosts file that podman made") {
		t.Errorf("the next stage hears %+v (%v)", n, err)
	}
	if _, err := precreate(socket, []byte(`{"annotations":{"tapswitch.network":"bridge"}}`)); err == nil || !strings.Contains(err.Error(), "no container id") {
		t.Errorf("without an id: %v", err)
	}
	if _, err := precreate(socket, []byte("no json")); err == nil {
		t.Error("no JSON is taken")
	}
	if out, err := precreate("/nonexistent/s", []byte(podmanConfig(hosts))); err != nil || string(out) != podmanConfig(hosts) {
		t.Errorf("without a switch: %v", err)
	}
}

func TestContainerID(t *testing.T) {
	other := strings.Repeat("0", 64)
	at := func(destination, id string) mount {
		return mount{Destination: destination, Source: "/x/vfs-containers/" + id + "/userdata/file"}
	}
	for _, c := range []struct {
		name   string
		cgroup string
		mounts []mount
		want   string
	}{
		{"cgroupfs", "/libpod_parent/libpod-" + id, nil, id},
		{"systemd", "user.slice:libpod:" + id, nil, id},
		{"scope", "/machine.slice/libpod-" + id + ".scope", nil, id},
		{"in a pod", "", []mount{at("/etc/hosts", other), at("/dev/shm", other), at("/run/.containerenv", id)}, id},
		{"read only", "", []mount{at("/dev/shm/", id)}, id},
		{"none", "/docker", []mount{{Destination: "/etc/hosts", Source: "/home/" + id}}, ""},
	} {
		s := &spec{Mounts: c.mounts}
		s.Linux.CgroupsPath = c.cgroup
		got, err := containerID(s)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q (%v)", c.name, got, err)
		}
	}
}

func TestRecordOf(t *testing.T) {
	for _, bad := range []string{"", ".", "..", "a/b", "../x", strings.Repeat("a", 129), "a\x00"} {
		if r, err := recordOf("/s", bad); err == nil {
			t.Errorf("%q has the record %s", bad, r.dir)
		}
	}
	if r, err := recordOf("/run/s", "web"); err != nil || r.dir != "/run/s.hooks/web" {
		t.Errorf("%v (%v)", r, err)
	}
}

func TestSweep(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	start, err := porter.StartTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for name, n := range map[string]note{"runs": {Pid: os.Getpid(), Start: start}, "reused": {Pid: os.Getpid(), Start: start - 1}, "gone": {Pid: 1 << 30}, "between": {}} {
		if err := (record{filepath.Join(recordsOf(socket), name)}).begin(n); err != nil {
			t.Fatal(err)
		}
	}
	left := func() string {
		entries, _ := os.ReadDir(recordsOf(socket))
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return strings.Join(names, " ")
	}
	sweep(socket, time.Now())
	if got := left(); got != "between runs" {
		t.Errorf("left: %s", got)
	}
	sweep(socket, time.Now().Add(unfinished+time.Minute))
	if got := left(); got != "runs" {
		t.Errorf("later left: %s", got)
	}
}

// poststop is called whatever has happened before, also with the switch gone.
func TestPoststop(t *testing.T) {
	dir := t.TempDir()
	c := &client.Client{Socket: filepath.Join(dir, "s")}
	in := `{"id":"` + id + `","status":"stopped","annotations":{"tapswitch.network":"bridge"}}`
	rec, err := recordOf(c.Socket, id)
	if err != nil {
		t.Fatal(err)
	}
	if err := rec.begin(note{OnSwitch: "abc"}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Run(Poststop, c, strings.NewReader(in), nil); err != nil {
			t.Fatal(err)
		}
		if entries, _ := os.ReadDir(dir); len(entries) > 0 {
			t.Errorf("left: %v", entries)
		}
	}
	for _, bad := range []string{"", "{}", `{"id":"../x"}`} {
		if err := Run(Poststop, c, strings.NewReader(bad), nil); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestCreateRuntimeRefuses(t *testing.T) {
	c := &client.Client{Socket: filepath.Join(t.TempDir(), "s")}
	state := func(pid int, ann string) string {
		b, _ := json.Marshal(map[string]any{"id": id, "pid": pid, "bundle": "/nonexistent", "annotations": map[string]string{"tapswitch.network": ann}})
		return string(b)
	}
	for name, x := range map[string]struct{ in, want string }{
		"no state":           {"x", "the container's state"},
		"a wrong annotation": {state(1, "a:b=c"), "unknown key"},
		"no pid":             {state(0, "bridge"), "no pid"},
		"a pid that is gone": {state(1<<30, "bridge"), "no such file"},
		"the host's network": {state(os.Getpid(), "bridge"), "--network none"},
	} {
		if err := Run(CreateRuntime, c, strings.NewReader(x.in), nil); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %q in it", name, err, x.want)
		}
	}
	if err := Run(CreateRuntime, c, strings.NewReader(`{"id":"x","pid":1}`), nil); err != nil {
		t.Errorf("a container that is not ours: %v", err)
	}
}

func TestInstall(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "hooks.d")
	paths, err := Install(dir, "/usr/bin/tapswitch", "/run/user/1000/tapswitch/tapswitch.sock")
	if err != nil || len(paths) != len(Stages) {
		t.Fatalf("%v (%v)", paths, err)
	}
	for i, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		var h podmanHook
		if err := json.Unmarshal(b, &h); err != nil {
			t.Fatal(err)
		}
		want := podmanHook{"1.0.0", program{"/usr/bin/tapswitch", []string{"tapswitch", "--socket", "/run/user/1000/tapswitch/tapswitch.sock", "hook", Stages[i]}, 30},
			when{map[string]string{`^tapswitch\.network$`: ".*"}}, []string{Stages[i]}}
		if !reflect.DeepEqual(h, want) {
			t.Errorf("%s: %+v", p, h)
		}
	}
	if gone, err := Uninstall(dir); err != nil || !reflect.DeepEqual(gone, paths) {
		t.Errorf("removed %v (%v)", gone, err)
	}
	if gone, err := Uninstall(dir); err != nil || len(gone) > 0 {
		t.Errorf("removed again %v (%v)", gone, err)
	}
}

// Whatever a configuration holds, what comes out is one with the same rest, and
// nothing is written outside of the records.
func FuzzPrecreate(f *testing.F) {
	f.Add([]byte(podmanConfig("/nonexistent/" + id + "/userdata/hosts")))
	f.Add([]byte(`{"annotations":{"tapswitch.network":"a"},"linux":{"cgroupsPath":"` + id + `"},"mounts":[{"destination":1},null,{}]}`))
	f.Add([]byte(`{"annotations":{"tapswitch.network":"a"},"linux":{"cgroupsPath":"` + id + `"},"mounts":{}}`))
	f.Fuzz(func(t *testing.T, config []byte) {
		dir := t.TempDir()
		out, err := precreate(filepath.Join(dir, "s"), config)
		if entries, _ := os.ReadDir(dir); len(entries) > 1 || len(entries) == 1 && entries[0].Name() != "s.hooks" {
			t.Fatalf("wrote %v", entries)
		}
		if err != nil {
			return
		}
		var a, b map[string]any
		if json.Unmarshal(config, &a) != nil {
			t.Fatal("no configuration, and no error")
		}
		if err := json.Unmarshal(out, &b); err != nil {
			t.Fatalf("what comes out: %v", err)
		}
		delete(a, "mounts")
		delete(b, "mounts")
		if !reflect.DeepEqual(a, b) {
			t.Errorf("the rest was %v and is %v", a, b)
		}
	})
}
