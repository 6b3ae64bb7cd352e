package cni

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/client"
)

const container = "0123456789abcdef0123456789abcdef"

func TestRequest(t *testing.T) {
	for _, c := range []struct {
		name, conf, args string
		want             api.Reserve
		err              string
	}{
		{"least", `{}`, "", api.Reserve{Name: "0123456789ab", Networks: []api.Attachment{{Network: "net"}}}, ""},
		{"podman 4.3.1", `{"network":"bridge","publish":true,"capabilities":{"portMappings":true},
			"runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp","hostIP":""},{"hostPort":0,"containerPort":81},{"hostPort":53,"containerPort":53,"protocol":"udp","hostIP":"127.0.0.1"}],
			"aliases":{"net":["www"],"other":["no"]}}}`, "IgnoreUnknown=1;K8S_POD_NAME=web;IP=;MAC=",
			api.Reserve{Name: "web", Networks: []api.Attachment{{Network: "bridge", Aliases: []string{"www"}}}, Publish: []string{"8080:80/tcp", "127.0.0.1:53:53/udp"}}, ""},
		{"all", `{"egress":"internet","spoof":true,"runtimeConfig":{"ips":["172.17.0.9/16","fd00::9"],"mac":"02:00:00:00:00:01","bandwidth":{"ingressRate":1000000,"ingressBurst":1,"egressRate":2000000}}}`, "",
			api.Reserve{Name: "0123456789ab", Egress: "internet", Spoof: true, Shape: api.Shape{RateIn: "1000000bit", RateOut: "2000000bit"},
				Networks: []api.Attachment{{Network: "net", IP: "172.17.0.9", IP6: "fd00::9", MAC: "02:00:00:00:00:01"}}}, ""},
		{"a pod", `{"args":{"cni":{"ips":["10.0.0.9"],"mac":"02:00:00:00:00:02"}}}`, "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=x",
			api.Reserve{Name: "web-0.default", Networks: []api.Attachment{{Network: "net", IP: "10.0.0.9", MAC: "02:00:00:00:00:02"}}}, ""},
		{"by CNI_ARGS", `{}`, "IP=10.0.0.9/24;MAC=02:00:00:00:00:03", api.Reserve{Name: "0123456789ab", Networks: []api.Attachment{{Network: "net", IP: "10.0.0.9", MAC: "02:00:00:00:00:03"}}}, ""},
		{"not ours to publish", `{"publish":false,"runtimeConfig":{"portMappings":[{"hostPort":1,"containerPort":2}]}}`, "", api.Reserve{Name: "0123456789ab", Networks: []api.Attachment{{Network: "net"}}}, ""},
		{"two of a family", `{"runtimeConfig":{"ips":["10.0.0.9","10.0.0.8"]}}`, "", api.Reserve{}, "one of a family"},
		{"no address", `{"runtimeConfig":{"ips":["web"]}}`, "", api.Reserve{}, `"web" is no address`},
		{"no port", `{"publish":true,"runtimeConfig":{"portMappings":[{"hostPort":70000,"containerPort":80}]}}`, "", api.Reserve{}, "ports are 1 to 65535"},
	} {
		cf, err := readConf([]byte(strings.Replace(c.conf, "{", `{"name":"net",`, 1)))
		if c.conf == "{}" {
			cf, err = readConf([]byte(`{"name":"net"}`))
		}
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		got, err := cf.request(&skel.CmdArgs{ContainerID: container, Netns: "/run/netns/x", IfName: "eth0", Args: c.args})
		if c.err != "" {
			var e *types.Error
			if !errors.As(err, &e) || e.Code != types.ErrInvalidNetworkConfig || !strings.Contains(e.Msg, c.err) {
				t.Errorf("%s: %v, want %q in it", c.name, err, c.err)
			}
			continue
		}
		c.want.Key, c.want.Origin, c.want.Lifetime, c.want.Netns, c.want.Networks[0].IfName = "cni:"+container, "cni", "until_error", "/run/netns/x", "eth0"
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v (%v), want %+v", c.name, got, err, c.want)
		}
	}
}

// Errors have the specification's codes.
func TestExplain(t *testing.T) {
	for _, c := range []struct {
		err  error
		code uint
	}{
		{&client.NotRunning{Socket: "/s"}, types.ErrTryAgainLater},
		{api.Errorf(api.BadRequest, "x"), types.ErrInvalidNetworkConfig},
		{api.Errorf(api.Conflict, "x"), errRefused},
		{invalid("x"), types.ErrInvalidNetworkConfig},
		{io.EOF, types.ErrInternal},
	} {
		var e *types.Error
		if !errors.As(explain(c.err), &e) || e.Code != c.code {
			t.Errorf("%v: %+v, want %d", c.err, e, c.code)
		}
	}
	if explain(nil) != nil {
		t.Error("no error is one")
	}
	var e *types.Error
	if _, err := readConf([]byte("{")); !errors.As(err, &e) || e.Code != types.ErrDecodingFailure {
		t.Errorf("no JSON: %v", err)
	}
}

func TestSame(t *testing.T) {
	prev := &current.Result{Interfaces: []*current.Interface{{Name: "lo"}, {Name: "eth0", Mac: "02:42:ac:11:00:02"}},
		IPs: []*current.IPConfig{{Interface: current.Int(0), Address: net.IPNet{IP: net.ParseIP("127.0.0.1")}}, {Interface: current.Int(1), Address: net.IPNet{IP: net.ParseIP("172.17.0.2")}}}}
	good := api.Endpoint{IP: "172.17.0.2", MAC: "02:42:ac:11:00:02"}
	for name, c := range map[string]struct {
		ifname string
		e      api.Endpoint
		err    string
	}{
		"the same":        {"eth0", good, ""},
		"another MAC":     {"eth0", api.Endpoint{IP: "172.17.0.2", MAC: "02:42:ac:11:00:03"}, "MAC address"},
		"another address": {"eth0", api.Endpoint{IP: "172.17.0.3", MAC: good.MAC}, "172.17.0.2"},
		"no interface":    {"eth1", good, "no interface eth1"},
	} {
		err := same(prev, c.ifname, &c.e)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever a configuration holds, what it asks for can be asked: it is valid
// JSON, and its ports and addresses are some.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"name":"net","publish":true,"runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80}],"ips":["10.0.0.9/24"]}}`), "K8S_POD_NAME=web;IP=1.2.3.4")
	f.Add([]byte(`{"name":"net","runtimeConfig":{"aliases":null,"bandwidth":{}}}`), ";=;")
	f.Fuzz(func(t *testing.T, conf []byte, args string) {
		cf, err := readConf(conf)
		if err != nil {
			return
		}
		r, err := cf.request(&skel.CmdArgs{ContainerID: container, IfName: "eth0", Args: args})
		if err != nil {
			return
		}
		if len(r.Networks) != 1 || r.Networks[0].IfName != "eth0" || r.Key != "cni:"+container || r.Name == "" {
			t.Errorf("request %+v", r)
		}
		if _, err := json.Marshal(r); err != nil {
			t.Error(err)
		}
	})
}
