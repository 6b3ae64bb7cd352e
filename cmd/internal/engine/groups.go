package engine

import (
	"cmp"
	"net/netip"
	"slices"

	"tapswitch/cmd/internal/api"
	"tapswitch/switch"
)

// GroupMembers lists who has asked for which multicast group.
func (e *Engine) GroupMembers() []api.GroupMember {
	type row struct {
		api.GroupMember
		at netip.Addr
	}
	var rows []row
	e.path.Each(func(_ int, sw *vswitch.Switch) {
		for _, b := range sw.Bridges() {
			for _, m := range b.Groups() {
				if p := sw.Port(m.Port); p != nil {
					rows = append(rows, row{api.GroupMember{Network: b.Name, Group: m.Group.String(), Interface: p.Name, AgeSec: m.Age}, m.Group})
				}
			}
		}
	})
	slices.SortFunc(rows, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.Network, b.Network), a.at.Compare(b.at), cmp.Compare(a.Interface, b.Interface))
	})
	out := []api.GroupMember{}
	for _, r := range rows {
		out = append(out, r.GroupMember)
	}
	return out
}

// multicast is what a network's bridges, one in each shard, say of groups.
func (e *Engine) multicast(n *network) *api.Multicast {
	m := &api.Multicast{Snooping: !n.cfg.NoSnooping}
	groups := make(map[netip.Addr]bool)
	e.path.Each(func(i int, _ *vswitch.Switch) {
		b := n.bridge.Bridges[i]
		s := b.GroupStats()
		m.Members += s.Members
		m.Reports, m.Queries, m.Aged, m.Evicted = m.Reports+s.Reports, m.Queries+s.Queries, m.Aged+s.Aged, m.Evicted+s.Evicted
		for _, x := range b.Groups() {
			groups[x.Group] = true
		}
	})
	m.Groups = len(groups)
	return m
}
