package joiner

import (
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/client"
	"tapswitch/forward"
)

func TestAttachment(t *testing.T) {
	for _, c := range []struct {
		text string
		want api.Attachment
		err  string
	}{
		{"bridge", api.Attachment{Network: "bridge"}, ""},
		{"bridge:", api.Attachment{Network: "bridge"}, ""},
		{"a:ip=172.17.0.9,ip6=fd00::9,mac=02:00:00:00:00:01,alias=x,alias=y,ifname=net0", api.Attachment{Network: "a", IP: "172.17.0.9", IP6: "fd00::9", MAC: "02:00:00:00:00:01", Aliases: []string{"x", "y"}, IfName: "net0"}, ""},
		{"a:ip=fd00::9", api.Attachment{Network: "a", IP6: "fd00::9"}, ""},
		{"container:web", api.Attachment{Network: "container:web"}, ""},
		{"container:", api.Attachment{}, "container:NAME"},
		{"", api.Attachment{}, "a name must stand first"},
		{"a:ip", api.Attachment{}, "key=value"},
		{"a:ip=", api.Attachment{}, "key=value"},
		{"a:mask=1", api.Attachment{}, `unknown key "mask"`},
	} {
		got, err := Attachment(c.text)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: %v, want %q in it", c.text, err, c.err)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %+v (%v), want %+v", c.text, got, err, c.want)
		}
	}
}

func TestPort(t *testing.T) {
	for _, c := range []struct {
		ip              string
		host, container uint16
		proto, want     string
	}{
		{"", 8080, 80, "tcp", "8080:80/tcp"},
		{"127.0.0.1", 8080, 80, "UDP", "127.0.0.1:8080:80/udp"},
		{"::1", 8080, 80, "tcp", "[::1]:8080:80/tcp"},
		{"", 0, 80, "tcp", "80/tcp"},
		{"127.0.0.1", 0, 80, "tcp", "127.0.0.1::80/tcp"},
	} {
		got := Port(c.ip, c.host, c.container, c.proto)
		if got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
		if s, err := forward.ParseSpec(got); err != nil || len(s) != 1 || s[0].HostPort != c.host || s[0].ContainerPort != c.container {
			t.Errorf("%s is read as %+v (%v)", got, s, err)
		}
	}
}

func TestMissing(t *testing.T) {
	have := []api.Port{{Protocol: "tcp", HostIP: "0.0.0.0", HostPort: 8080, ContainerPort: 80}, {Protocol: "tcp", HostIP: "::", HostPort: 8080, ContainerPort: 80}, {Protocol: "udp", HostIP: "127.0.0.1", HostPort: 53, ContainerPort: 53}}
	want := []string{"8080:80/tcp", "8080:80/udp", "127.0.0.1:53:53/udp", "127.0.0.2:53:53/udp", "80/tcp", "127.0.0.1::53/udp"}
	if got := missing(want, have); !reflect.DeepEqual(got, []string{"8080:80/udp", "127.0.0.2:53:53/udp"}) {
		t.Errorf("missing: %v", got)
	}
}

func TestFind(t *testing.T) {
	all := []*api.Container{
		{Name: "ended", Key: "cni:a", State: "exited", Networks: []api.Endpoint{{IfName: "eth0"}}},
		{Name: "mine", State: "running", Networks: []api.Endpoint{{IfName: "eth0"}}},
		{Name: "a", Key: "cni:a", State: "running", Networks: []api.Endpoint{{IfName: "eth0"}, {IfName: "eth1", Network: "n"}}},
	}
	for _, c := range []struct{ key, ifname, name, network string }{{"cni:a", "eth1", "a", "n"}, {"cni:a", "eth2", "a", "none"}, {"cni:b", "eth0", "none", "none"}, {"", "eth0", "none", "none"}} {
		x, e, err := find(all, c.key, c.ifname)
		if err != nil || (x == nil) != (c.name == "none") || x != nil && x.Name != c.name || (e == nil) != (c.network == "none") || e != nil && e.Network != c.network {
			t.Errorf("%+v: %+v %+v (%v)", c, x, e, err)
		}
	}
}

func TestGone(t *testing.T) {
	for _, c := range []struct {
		err  error
		gone bool
	}{{&client.NotRunning{}, true}, {api.Errorf(api.NotFound, "x"), true}, {api.Errorf(api.Conflict, "x"), false}, {errors.New("x"), false}} {
		if Gone(c.err) != c.gone {
			t.Errorf("%#v: %v", c.err, !c.gone)
		}
	}
	// Without a switch there is nothing to take off.
	c := &client.Client{Socket: filepath.Join(t.TempDir(), "s")}
	if err := Remove(c, "cni:a", "eth0"); err != nil {
		t.Error(err)
	}
}
