package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func init() { programs["web"], programs["fetch"], programs["twice"] = progWeb, progFetch, progTwice }

// progWeb PORT is a web server that answers with the Host it was asked for.
func progWeb(args []string) int {
	l, err := net.Listen("tcp", ":"+args[0])
	if err != nil {
		return fail(err)
	}
	fmt.Println("listening")
	return fail(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "site %s %d\n", r.Host, r.ContentLength)
	})))
}

// progFetch URL... fetches with one client, as browsers do.
func progFetch(args []string) int {
	c := http.Client{Timeout: silence}
	for _, url := range args {
		r, err := c.Post(url, "text/plain", strings.NewReader("four"))
		if err != nil {
			return fail(err)
		}
		b, _ := io.ReadAll(r.Body)
		r.Body.Close()
		fmt.Printf("%s", b)
	}
	return 0
}

// progTwice ADDR HOST HOST sends two requests on one connection, at once.
func progTwice(args []string) int {
	c, err := net.DialTimeout("tcp", args[0], silence)
	if err != nil {
		return fail(err)
	}
	_ = c.SetDeadline(time.Now().Add(silence))
	for _, host := range args[1:] {
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: keep-alive\r\n\r\n", host)
	}
	b, _ := io.ReadAll(c)
	fmt.Printf("%s", b)
	return 0
}

// On an address that a name has opened an HTTP connection gets one answer, for
// that name; a second request of it, for another, gets none. Clients do not notice.
// And a name opens UDP only where the policy says so.
func TestEgressOneRequest(t *testing.T) {
	l := newLab(t)
	if l == nil {
		return
	}
	startProc(t, l.far("names", "192.0.2.2:53", "good.example=192.0.2.2")).expect("listening")
	startProc(t, l.far("web", "80")).expect("listening")
	startProc(t, l.far("serve", "81")).expect("listening")
	l.up("--dns-upstream", "192.0.2.2", "-c", l.write("c.yaml", `
egress:
  - {name: any, allow: ["good.example:80-81"]}
  - {name: udp, allow: ["good.example:80-81/udp"]}
networks:
  - {name: bridge, subnet: 172.17.0.0/16}
containers:
  - {name: free, networks: [bridge]}
  - {name: any, networks: [bridge], egress: any}
  - {name: udp, networks: [bridge], egress: udp}
`), "--ephemeral")
	for name, want := range map[string]string{"free": "site good.example 0,site bad.example 0", "any": "site good.example 0"} {
		var sites []string
		for line := range strings.Lines(l.ok("exec", name, "--", prog, "twice", "good.example:80", "good.example", "bad.example")) {
			if strings.HasPrefix(line, "site ") {
				sites = append(sites, strings.TrimSpace(line))
			}
		}
		if got := strings.Join(sites, ","); name == "any" && got != want || name == "free" && !strings.HasPrefix(got, "site") {
			t.Errorf("%s got %q, not %q", name, got, want)
		}
	}
	if got := l.ok("exec", "any", "--", prog, "fetch", "http://good.example/a", "http://good.example/b", "http://GOOD.example:80/c"); strings.Count(got, "site ") != 3 || strings.Count(got, " 4") != 3 {
		t.Errorf("an ordinary client got %q", got)
	}
	l.asks("any", "tcp", "good.example:81", "from ")
	l.asks("any", "udp", "good.example:81", refused)
	l.ok("exec", "udp", prog, "lookup", "good.example")
	l.asks("udp", "udp", "192.0.2.2:81", "from ")
	l.asks("udp", "tcp", "192.0.2.2:81", refused)
}
