package switchtest

import "tapswitch/switch"

// ByGateway are the reasons for drops that only a gateway gives. Its tests
// provoke these, and the switch's all others: a new reason that nobody provokes
// is noticed by one of the two.
var ByGateway = []vswitch.Reason{
	vswitch.BadChecksum, vswitch.Isolated, vswitch.Internal, vswitch.Rule, vswitch.Egress, vswitch.NoForwarding, vswitch.NoMasquerade, vswitch.TTLExceeded,
	vswitch.HostLoopback, vswitch.HostAddress, vswitch.LinkLocalOnly, vswitch.MulticastRouted, vswitch.Refused, vswitch.NoAnswer, vswitch.FlowLimit, vswitch.HalfOpenLimit,
	vswitch.SocketFailed, vswitch.OutOfWindow, vswitch.SocketFull, vswitch.FragmentLimit, vswitch.FragmentTimeout, vswitch.Unsolicited, vswitch.PingDenied,
	vswitch.LocalBusy, vswitch.NoContainer,
}
