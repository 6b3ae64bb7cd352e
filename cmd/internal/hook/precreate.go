package hook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// mount is one of the configuration's mounts; spec is what we read of the rest.
type mount struct {
	Destination string   `json:"destination"`
	Type        string   `json:"type,omitempty"`
	Source      string   `json:"source,omitempty"`
	Options     []string `json:"options,omitempty"`
}

type spec struct {
	Hostname    string            `json:"hostname"`
	Annotations map[string]string `json:"annotations"`
	Mounts      []mount           `json:"mounts"`
	Linux       struct {
		CgroupsPath string `json:"cgroupsPath"`
		MountLabel  string `json:"mountLabel"`
	} `json:"linux"`
}

// precreate adds resolv.conf and hosts to a container's configuration: podman
// makes no resolv.conf where there is no network of its own, and names the
// container's loopback in hosts. The files are empty until createRuntime knows
// the addresses; the container has not started then.
//
// podman shows nobody what a hook of this stage says. So what can be told later
// is: wrong annotations are read again by createRuntime, all else is left in the
// record.
func precreate(socket string, config []byte) ([]byte, error) {
	var s spec
	if err := json.Unmarshal(config, &s); err != nil {
		return nil, fmt.Errorf("the container's configuration: %w", err)
	}
	r, err := request(s.Annotations)
	if err != nil || r == nil {
		return config, nil
	}
	id, err := containerID(&s)
	if err != nil {
		return nil, err
	}
	rec, err := recordOf(socket, id)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Dir(socket)); err != nil {
		return config, nil // there is no switch, which createRuntime says
	}
	sweep(socket, time.Now())
	out, err := amend(&s, rec, config)
	if err != nil {
		return config, rec.begin(note{Problem: err.Error()})
	}
	return out, nil
}

func amend(s *spec, rec record, config []byte) ([]byte, error) {
	n := note{Hostname: s.Hostname}
	podmans := podmansFile(s.Mounts, "/etc/hosts")
	if podmans != "" {
		text, err := os.ReadFile(podmans)
		if err != nil {
			return nil, fmt.Errorf("the hosts file that podman made: %w", err)
		}
		n.Name, n.Extra = readHosts(string(text), s.Hostname)
	}
	if err := rec.begin(n); err != nil {
		return nil, fmt.Errorf("the container's files: %w", err)
	}
	add := map[string]string{}
	if podmans != "" { // else the user has a hosts of his own, or wants none
		add["/etc/hosts"] = rec.path("hosts")
	}
	if podmansFile(s.Mounts, "/etc/resolv.conf") != "" || !has(s.Mounts, "/etc/resolv.conf") {
		add["/etc/resolv.conf"] = rec.path("resolv.conf")
	}
	for _, path := range add {
		if err := makeFile(path, s.Linux.MountLabel); err != nil {
			return nil, fmt.Errorf("the container's files: %w", err)
		}
	}
	return addMounts(config, add)
}

// makeFile makes an empty file that everybody in the container may read; label
// is SELinux's, as podman puts it on files of its own.
func makeFile(path, label string) error {
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		return err
	}
	if err := os.Chmod(path, 0o644); err != nil { // whatever the umask
		return err
	}
	if label == "" {
		return nil
	}
	if err := unix.Setxattr(path, "security.selinux", []byte(label), 0); err != nil && err != unix.ENOTSUP {
		return fmt.Errorf("label %s of %s: %w", label, path, err)
	}
	return nil
}

var userdataRE = regexp.MustCompile(`/([0-9a-f]{64})/userdata/[^/]+$`)
var cgroupRE = regexp.MustCompile(`([0-9a-f]{64})(\.scope)?$`)

// containerID finds the runtime's id of a container, which its configuration
// does not name: in the cgroup's path, or where podman keeps the container's own
// files. In a pod others of these are shared.
func containerID(s *spec) (string, error) {
	if m := cgroupRE.FindStringSubmatch(s.Linux.CgroupsPath); m != nil {
		return m[1], nil
	}
	for _, at := range []string{"/run/.containerenv", "/etc/hostname", "/dev/shm", "/etc/hosts"} {
		for _, x := range s.Mounts {
			if m := userdataRE.FindStringSubmatch(x.Source); m != nil && filepath.Clean(x.Destination) == at {
				return m[1], nil
			}
		}
	}
	return "", errors.New("no container id in the configuration: this stage is for podman and CRI-O")
}

// podmansFile is the file that podman made for a path, if it did; one that the
// user has mounted there is not podman's.
func podmansFile(ms []mount, at string) string {
	for _, m := range ms {
		if filepath.Clean(m.Destination) == at && strings.HasSuffix(m.Source, "/userdata/"+filepath.Base(at)) {
			return m.Source
		}
	}
	return ""
}

func has(ms []mount, at string) bool {
	for _, m := range ms {
		if filepath.Clean(m.Destination) == at {
			return true
		}
	}
	return false
}

// readHosts finds podman's name of the container in the hosts file that podman
// made for it (the line of the hostname has both) and the lines that are not
// about loopback: those of --add-host, and of the host.
func readHosts(text, hostname string) (name, extra string) {
	for _, line := range strings.Split(text, "\n") {
		body, _, _ := strings.Cut(line, "#")
		f := strings.Fields(body)
		if len(f) < 2 {
			continue
		}
		if !strings.HasPrefix(f[0], "127.") && f[0] != "::1" {
			extra += line + "\n"
			continue
		}
		for i, x := range f[1:] {
			if x == hostname && i+2 < len(f) {
				name = f[i+2]
			}
		}
	}
	return name, extra
}

// addMounts replaces or adds bind mounts, by destination; all else in the
// configuration stays as it is, also what we do not know.
func addMounts(config []byte, add map[string]string) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(config))
	d.UseNumber() // 64 bits are more than a float has
	var all map[string]any
	if err := d.Decode(&all); err != nil {
		return nil, err
	}
	old, _ := all["mounts"].([]any)
	mounts := make([]any, 0, len(old)+len(add))
	for _, m := range old {
		o, _ := m.(map[string]any)
		at, _ := o["destination"].(string)
		if _, ours := add[filepath.Clean(at)]; !ours {
			mounts = append(mounts, m)
		}
	}
	for _, at := range []string{"/etc/hosts", "/etc/resolv.conf"} {
		if source := add[at]; source != "" {
			mounts = append(mounts, mount{at, "bind", source, []string{"bind", "rprivate"}})
		}
	}
	all["mounts"] = mounts
	return json.Marshal(all)
}
