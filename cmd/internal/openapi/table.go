package openapi

import "tapswitch/cmd/internal/api"

// Operation is one request of the API.
type Operation struct {
	Pattern string // as the worker's mux has it: "GET /v1/networks/{name}"
	Summary string
	In      any         // a value of the body's type; nil: no body
	Out     any         // of the answer's; nil with Media
	Query   []Parameter // in the path behind ?
	Files   string      // descriptors that come beside the request, over the unix socket
	Media   string      // of an answer that is no JSON of ours
	Private bool        // not for the read-only socket, though it changes nothing
}

// Parameter is a word of the query.
type Parameter struct{ Name, Type, Text string }

// nothing is the answer of requests that have none.
type nothing struct{}

var everything = Parameter{"all", "string", "any value: those that do not run, too"}

var (
	ofContainer = Parameter{"container", "string", "of this container alone"}
	last        = Parameter{"last", "integer", "so many, the newest; all without it"}
)

const (
	stream = "one stream socket, which the answer's bytes go through"
	stdio  = "none, or three: standard input, output and error"
)

// Operations are all requests; a test holds them against the worker's routes.
var Operations = []Operation{
	{Pattern: "GET /v1/status", Summary: "The switch: what runs, with which configuration, and what it counted", Out: api.Status{}},
	{Pattern: "GET /v1/config", Summary: "The configuration in force, with each value's origin, as text in YAML and in JSON", Out: map[string]string{}, Private: true},
	{Pattern: "POST /v1/reload", Summary: "Apply what changed in the configuration file", Out: api.Status{}},
	{Pattern: "POST /v1/shutdown", Summary: "End the switch and all its containers", Out: nothing{}},
	{Pattern: "GET /v1/log", Summary: "What is logged", Out: api.Log{}},
	{Pattern: "PUT /v1/log", Summary: "Change the level of what is logged, until a configuration with another one is applied", In: api.Log{}, Out: api.Log{}},

	{Pattern: "GET /v1/networks", Summary: "List networks in the order they were made", Out: []api.Network{}},
	{Pattern: "POST /v1/networks", Summary: "Make a network", In: api.NetworkCreate{}, Out: api.Network{}},
	{Pattern: "GET /v1/networks/{name}", Summary: "One network", Out: api.Network{}},
	{Pattern: "DELETE /v1/networks/{name}", Summary: "Remove a network that nobody is on", Out: nothing{}},
	{Pattern: "POST /v1/networks/{name}/connect", Summary: "Put a container on a network", In: api.NetworkConnect{}, Out: nothing{}},
	{Pattern: "POST /v1/networks/{name}/disconnect", Summary: "Take a container off a network", In: api.NetworkConnect{}, Out: nothing{}},
	{Pattern: "POST /v1/networks/prune", Summary: "Remove the networks that nobody uses", Out: api.Pruned{}},

	{Pattern: "GET /v1/containers", Summary: "List containers in the order they were made", Out: []api.Container{}, Query: []Parameter{everything}},
	{Pattern: "POST /v1/containers", Summary: "Make a container and run its command", In: api.Create{}, Out: api.Container{}, Files: stdio},
	{Pattern: "GET /v1/containers/{name}", Summary: "One container, with its interfaces' counters", Out: api.Container{}},
	{Pattern: "DELETE /v1/containers/{name}", Summary: "Remove a container", Out: nothing{}, Query: []Parameter{{"force", "string", "any value: end it first"}}},
	{Pattern: "POST /v1/containers/{name}/wait", Summary: "Wait for a container's end", Out: api.Exit{}},
	{Pattern: "POST /v1/containers/{name}/kill", Summary: "Send a container's process a signal", Out: nothing{}, Query: []Parameter{{"signal", "string", "name or number; default KILL"}}},
	{Pattern: "POST /v1/containers/{name}/stop", Summary: "Ask a container to end, then end it", Out: nothing{}, Query: []Parameter{{"time", "integer", "seconds that it has; default 10"}}},
	{Pattern: "POST /v1/containers/{name}/exec", Summary: "Run a command in a container", In: api.Exec{}, Out: api.Session{}, Files: "three: standard input, output and error"},
	{Pattern: "POST /v1/containers/{name}/update", Summary: "Change what a container's interfaces are held to", In: api.Shape{}, Out: api.Container{}},
	{Pattern: "POST /v1/containers/{name}/dial", Summary: "Connect to a port of a container", Out: nothing{}, Files: stream, Query: []Parameter{{"port", "integer", "TCP port"}}},
	{Pattern: "POST /v1/containers/{name}/publish", Summary: "Publish further ports of a container", In: api.Publish{}, Out: []api.Port{}},
	{Pattern: "POST /v1/containers/{name}/unpublish", Summary: "Close published ports of a container", In: api.Publish{}, Out: []api.Port{}},
	{Pattern: "POST /v1/containers/{name}/forward", Summary: "Publish ports that lead to another address than the container's; only where no state is kept", In: api.Forward{}, Out: []api.Port{}},
	{Pattern: "POST /v1/containers/{name}/taps", Summary: "Duplicates of a joined container's TAPs", Out: nothing{}, Files: "a unix socket, through which they are sent"},
	{Pattern: "POST /v1/containers/{name}/leave", Summary: "Take a namespace that was joined off the switch", Out: nothing{}, Query: []Parameter{{"network", "string", "from this network alone"}}},
	{Pattern: "POST /v1/sessions/{id}/wait", Summary: "Wait for the end of an exec", Out: api.Exit{}},
	{Pattern: "POST /v1/sessions/{id}/kill", Summary: "Send an exec's process a signal", Out: nothing{}, Query: []Parameter{{"signal", "string", "name or number; default KILL"}}},

	{Pattern: "POST /v1/reservations", Summary: "Reserve addresses for a namespace that the caller will put on the switch", In: api.Reserve{}, Out: api.Reservation{}},
	{Pattern: "DELETE /v1/reservations/{id}", Summary: "Give a reservation back", Out: nothing{}},
	{Pattern: "POST /v1/ports", Summary: "Put a reserved namespace on the switch", In: api.Join{}, Out: api.Container{}, Files: "the TAPs of its interfaces, in the reservation's order, and a pidfd where that is the lifetime"},

	{Pattern: "GET /v1/rules", Summary: "List rules in their order, with what each has met", Out: []api.Rule{}, Query: []Parameter{{"all", "string", "any value: routes and what is built in, too"}}},
	{Pattern: "POST /v1/rules", Summary: "Add a rule, or a route between networks", In: api.RuleAdd{}, Out: api.Rule{}},
	{Pattern: "DELETE /v1/rules/{id}", Summary: "Take a rule away", Out: nothing{}},
	{Pattern: "GET /v1/routes", Summary: "List routes between networks", Out: []api.Rule{}},
	{Pattern: "DELETE /v1/routes/{id}", Summary: "Take a route away", Out: nothing{}},
	{Pattern: "GET /v1/egress", Summary: "List egress policies", Out: []api.Egress{}},
	{Pattern: "POST /v1/egress", Summary: "Make an egress policy", In: api.Egress{}, Out: api.Egress{}},
	{Pattern: "DELETE /v1/egress/{name}", Summary: "Remove an egress policy", Out: nothing{}},

	{Pattern: "POST /v1/trace", Summary: "What would become of a packet, step by step; none is sent", In: api.TraceRequest{}, Out: api.Trace{}},
	{Pattern: "POST /v1/verify", Summary: "Hold expectations against the policy", In: api.Verify{}, Out: []api.Expectation{}},
	{Pattern: "POST /v1/capture", Summary: "Packets as they pass, as pcapng", In: api.Capture{}, Out: nothing{}, Files: stream},
	{Pattern: "GET /v1/fdb", Summary: "Which interface holds which MAC address", Out: []api.FDBEntry{}},
	{Pattern: "GET /v1/groups", Summary: "Who has asked for which multicast group", Out: []api.GroupMember{}},
	{Pattern: "GET /v1/neighbours", Summary: "Who is where on which network", Out: []api.Neighbour{}},
	{Pattern: "GET /v1/flows", Summary: "List flows through the gateways", Out: []api.Flow{}, Query: []Parameter{
		ofContainer, {"proto", "string", "tcp, udp or icmp"}, {"state", "string", "as listed"}, {"remote", "string", "an address or CIDR of the other end, with or without a port"}}},
	{Pattern: "POST /v1/flows/kill", Summary: "End flows", In: api.FlowFilter{}, Out: api.Killed{}},
	{Pattern: "GET /v1/failures", Summary: "What came to nothing of late, merged", Out: []api.Failure{}, Query: []Parameter{ofContainer, last}},
	{Pattern: "GET /v1/dns", Summary: "What was asked of DNS, by whom, and who answered", Out: api.DNS{}, Query: []Parameter{ofContainer, last}},
	{Pattern: "GET /v1/trace/live", Summary: "Real packets with the steps of their decision, as they pass: a line of JSON each", Media: "application/x-ndjson", Private: true,
		Query: []Parameter{{"filter", "string", "as pcap-filter(7)"}}},
	{Pattern: "GET /v1/events", Summary: "What happens, as it happens: a line of JSON each", Media: "application/x-ndjson",
		Query: []Parameter{ofContainer, {"type", "string", "some of container, network, port, flow, drop, limit, dns, config, with commas"}}},
	{Pattern: "GET /v1/stats", Summary: "What the interfaces have counted", Out: []api.InterfaceStats{}},
	{Pattern: "GET /v1/metrics", Summary: "What was counted, for Prometheus; as OpenMetrics with that in Accept", Media: "text/plain"},
	{Pattern: "GET /v1/openapi.json", Summary: "This description", Media: "application/json"},
	{Pattern: "GET /debug/pprof/", Summary: "Profiles of the switch itself, where the configuration has pprof: true", Media: "text/html", Private: true},
}

// Find is the operation of a pattern.
func Find(pattern string) (Operation, bool) {
	for _, o := range Operations {
		if o.Pattern == pattern {
			return o, true
		}
	}
	return Operation{}, false
}
