//go:build interop

package capture

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// beyondTcpdump are filters that we take and libpcap does not: there an address
// needs host, and a protocol's name a backslash after proto.
var beyondTcpdump = map[string]bool{"172.17.0.2": true, "proto udp": true}

// TestInteropFilter: of one file, tcpdump takes the same packets by the same
// filters, and reads what we write.
func TestInteropFilter(t *testing.T) {
	if _, err := exec.LookPath("tcpdump"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	var file bytes.Buffer
	w := NewWriter(&file, "test", 256)
	w.Interface("web:eth0", "web on bridge")
	w.Interface("db:eth0", "")
	for i, name := range inOrder {
		b := frames()[name]
		w.Packet(&Packet{Interface: i % 2, Time: time.Unix(int64(i), 0), Length: len(b), Data: b[:min(len(b), 256)], Comment: name})
	}
	w.Missed(0, 1, time.Unix(9, 0))
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x.pcapng")
	if err := os.WriteFile(path, file.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	for text, want := range filters {
		if want == "!" || beyondTcpdump[text] {
			continue
		}
		var errs strings.Builder
		cmd := exec.Command("tcpdump", "-n", "-tt", "-r", path, text)
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Errorf("%q: %v\n%s", text, err, &errs)
			continue
		}
		var got []string
		for _, l := range strings.Split(string(out), "\n") {
			if len(l) > 0 && l[0] >= '0' && l[0] < '0'+byte(len(inOrder)) && strings.HasPrefix(l[1:], ".0") {
				got = append(got, inOrder[l[0]-'0'])
			}
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%q: tcpdump takes %q, we %q\n%s", text, s, want, out)
		}
	}
}
