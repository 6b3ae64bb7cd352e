package porter

import (
	"encoding/json"
	"net/netip"

	"tapswitch/cmd/internal/api"
	"tapswitch/configs"
)

// Message is what worker and porter exchange. A request carries an id that its
// reply repeats; an event has none.
type Message struct {
	ID        uint64          `json:"id,omitempty"`
	Op        string          `json:"op"`
	Name      string          `json:"name,omitempty"` // container id, or session
	Spec      *Spec           `json:"spec,omitempty"`
	Start     *Start          `json:"start,omitempty"`
	Exec      *ExecSpec       `json:"exec,omitempty"`
	Rejoin    *Rejoin         `json:"rejoin,omitempty"`
	Plug      *Plug           `json:"plug,omitempty"`
	Config    *Config         `json:"config,omitempty"`
	Signal    int             `json:"signal,omitempty"`
	Pid       int             `json:"pid,omitempty"`
	Code      int             `json:"code,omitempty"`
	Err       *api.Error      `json:"err,omitempty"`
	Text      string          `json:"text,omitempty"`
	Interface *api.Interface  `json:"interface,omitempty"`
	Extra     json.RawMessage `json:"extra,omitempty"`
	Request   *Request        `json:"request,omitempty"`
	Listen    *Listen         `json:"listen,omitempty"`
}

// Operations. The worker asks, the porter answers with the same word.
const (
	OpStart   = "start"   // porter to worker, first: Start, and the control socket
	OpReady   = "ready"   // worker to porter: everything is made; Text lists it
	OpFailed  = "failed"  // worker to porter: nothing was made; Err
	OpStop    = "stop"    // porter to worker: end; and back when done
	OpDown    = "down"    // worker to porter: somebody asked for the end
	OpReload  = "reload"  // either way: Config, or Err
	OpCreate  = "create"  // Spec, and files; reply Pid, and TAPs
	OpGo      = "go"      // let a created container run its command
	OpSignal  = "signal"  // Signal to a container or session
	OpRelease = "release" // end a container and forget it
	OpExec    = "exec"    // Exec, and files; reply Name of the session
	OpRejoin  = "rejoin"  // Rejoin; reply TAPs, and a pidfd
	OpPlug    = "plug"    // Plug; reply TAPs
	OpHost    = "host"    // Interface of the host's own; reply its TAP. With Text "check" it is not made
	OpOwners  = "owners"  // processes of a container and their ports; reply Extra, a list of Owner
	OpSockets = "sockets" // Plug; reply a socket of the socket monitor there
	OpFiles   = "files"   // Spec: Resolv, Hosts and Mask of a container, as they are now, or Sysctls
	OpOpen    = "open"    // Name of a file of the host; reply the file
	OpListen  = "listen"  // Name, Listen: beside a path of the configuration's; reply the socket
	OpReveal  = "reveal"  // Name: it takes its place
	OpUnlink  = "unlink"  // Name: it goes; with Text, only the one beside
	OpExited  = "exited"  // event: a container ended with Code
	OpEnded   = "ended"   // event: a session ended with Code
	OpWarn    = "warn"    // event: Text
	OpRequest = "request" // porter to worker: Request of the control API, and files; reply Code, Extra or Err
)

// Start is what the worker needs to begin.
type Start struct {
	Socket    string   `json:"socket"` // of the control API; empty: nobody else is to speak it
	Runtime   string   `json:"runtime"`
	State     string   `json:"state"` // file; empty for an ephemeral switch
	Logs      string   `json:"logs"`  // directory
	Mask      []string `json:"mask"`  // paths that containers must not see
	PorterPid int      `json:"porter_pid"`
	Version   string   `json:"version"`
	Config    Config   `json:"config"`

	Source4 netip.Addr `json:"source4"` // the host's address that sockets to the outside have; zero: any
	Source6 netip.Addr `json:"source6"`

	Sandbox api.Sandbox `json:"-"` // the worker's, once it is in it
}

// Request is one of the control API without its socket: a face asks it of the
// worker that it has started.
type Request struct {
	Method string          `json:"method"`
	Path   string          `json:"path"`
	Body   json.RawMessage `json:"body,omitempty"`
}

// Config is a configuration as the porter read it, and how it reads.
type Config struct {
	Config *configs.Config `json:"config"`
	YAML   string          `json:"yaml"`
	JSON   string          `json:"json"`
}

// Spec is a container to be made.
type Spec struct {
	ID         string          `json:"id"`
	Name       string          `json:"name"`
	Hostname   string          `json:"hostname"`
	Interfaces []api.Interface `json:"interfaces"`
	Resolv     string          `json:"resolv"`
	Hosts      string          `json:"hosts"`
	Mask       []string        `json:"mask"`
	Command    []string        `json:"command"`
	Env        []string        `json:"env"`
	Workdir    string          `json:"workdir"`
	TTY        bool            `json:"tty"`
	Init       bool            `json:"init"`
	Hold       bool            `json:"hold"`
	Log        string          `json:"log"`
	HostNet    bool            `json:"host_net"` // no network namespace of its own
	Share      *Share          `json:"share,omitempty"`
	Sysctls    []File          `json:"sysctls,omitempty"` // of interfaces, below /proc/sys/net
}

// ExecSpec is a command to be run in a container.
type ExecSpec struct {
	Command []string `json:"command"`
	Env     []string `json:"env"`
	Workdir string   `json:"workdir"`
	TTY     bool     `json:"tty"`
	Mount   bool     `json:"mount"`           // a fresh pid namespace, which needs its own /proc
	Pid     int      `json:"pid"`             // of a joined namespace's process
	Files   []File   `json:"files,omitempty"` // to be written anew, instead of a command
}

// File is one that a container has of us: resolv.conf or hosts.
type File struct {
	Path string `json:"path"`
	Text string `json:"text"`
}

// Plug adds interfaces to a container that runs, or gives one that is there the
// default route. Pid or Netns say where one of others is.
type Plug struct {
	Pid        int             `json:"pid,omitempty"`
	Netns      string          `json:"netns,omitempty"`
	Interfaces []api.Interface `json:"interfaces,omitempty"`
	Route      *api.Interface  `json:"route,omitempty"`
}

// Rejoin is a namespace of others to be entered again.
type Rejoin struct {
	Pid        int             `json:"pid"`
	StartTime  uint64          `json:"start_time"`
	Netns      string          `json:"netns"`
	Interfaces []api.Interface `json:"interfaces"`
}
