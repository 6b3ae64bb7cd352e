package configs

import "strings"

// hostInterface checks the name of the i-th network's interface of the host, and
// that the gateway has an address for it.
func (k *checker) hostInterface(o object, i int) {
	const key = "host_interface"
	n := k.c.Networks[i]
	if n.HostInterface == "" {
		return
	}
	if !InterfaceName(n.HostInterface) || strings.Contains(n.HostInterface, "%") { // % is the kernel's to number
		k.bad(o, key, "%s is no name for an interface; write at most 15 letters and digits, as lab0", quote(n.HostInterface))
	}
	has4 := !n.NoIPv4 && n.Mode4 != "isolated" && !n.NoAddress4
	if !has4 && (!n.Subnet6.IsValid() || n.Mode6 == "isolated") {
		k.bad(o, key, "has the gateway's address, and the network's gateway has none; take gateway_mode isolated or inhibit_ipv4 away")
	}
	for _, other := range k.c.Networks[:i] {
		if other.HostInterface == n.HostInterface {
			k.bad(o, key, "%s is that of network %s already; write another", n.HostInterface, other.Name)
		}
	}
}
