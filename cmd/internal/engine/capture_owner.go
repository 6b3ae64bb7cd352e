package engine

import (
	"encoding/json"
	"strconv"
	"time"

	"tapswitch/cmd/internal/porter"
	"tapswitch/switch"
)

// owners knows which process in a container has which port. The porter looks into
// /proc, for all sockets of a container at once; that takes milliseconds, so it
// is asked when a port comes up that is not known, and for no more than a part of
// the time, which may be saved up for a while.
type owners struct {
	engine  *Engine
	tables  map[string]*ownerTable // by the container's id
	asked   string                 // whom the porter looks at now; "" for nobody
	since   time.Time
	saved   time.Duration // that the porter may look
	savedAt time.Time
	replies chan []porter.Owner
}

type ownerTable struct {
	at    time.Time // it was asked for
	names map[ownerKey]string
	none  map[ownerKey]time.Time // when one was looked for in vain
}

type ownerKey struct {
	proto uint8
	port  uint16
}

const (
	ownerWait  = 25 * time.Millisecond  // a batch waits for the porter
	ownerShare = 20                     // the porter looks for a twentieth of the time at most
	ownerSaved = 150 * time.Millisecond // and saves that up
	ownerStale = 5 * time.Second        // what was looked for in vain is looked for again
)

func newOwners(e *Engine) owners {
	return owners{engine: e, tables: make(map[string]*ownerTable), replies: make(chan []porter.Owner, 1), saved: ownerSaved, savedAt: time.Now()}
}

func keyOfOwner(k *flowKey) ownerKey {
	proto := k.proto
	if proto == vswitch.ProtoICMPv6 {
		proto = vswitch.ProtoICMP
	}
	return ownerKey{proto, k.local.Port()}
}

// owner is the process at the container's side of a flow, "" if it is not known.
func (o *owners) owner(p *portInfo, k *flowKey) string {
	if t := o.tables[p.id]; t != nil && k.proto != 0 {
		return t.names[keyOfOwner(k)]
	}
	return ""
}

// learnOwners asks for the processes behind the frames of a batch that are not
// known, and waits for a moment.
func (o *owners) learnOwners(s *fates, frames []vswitch.Captured, now time.Time) {
	if o.asked != "" {
		select {
		case list := <-o.replies:
			o.take(list)
		default:
		}
	}
	for {
		id := o.next(s, frames, now)
		if id == "" || !o.ask(id, now) {
			return
		}
		select {
		case list := <-o.replies:
			o.take(list)
		case <-time.After(ownerWait):
			return // it comes when it comes
		}
		t := o.tables[id]
		for i := range frames {
			if p := s.portOf(frames[i].Port, frames[i].PortGen); p != nil && p.id == id && s.keyOf(i).proto != 0 {
				if key := keyOfOwner(s.keyOf(i)); t.names[key] == "" {
					t.none[key] = now
				}
			}
		}
	}
}

// next is the container with frames of unknown processes that has not been looked
// at for the longest time: one with ever new ones must not take all of it.
func (o *owners) next(s *fates, frames []vswitch.Captured, now time.Time) (id string) {
	var oldest time.Time
	for i := range frames {
		k := s.keyOf(i)
		p := s.portOf(frames[i].Port, frames[i].PortGen)
		if s.same[i] || k.proto == 0 || p == nil || p.id == "" {
			continue
		}
		t := o.tables[p.id]
		if t == nil {
			return p.id
		}
		key := keyOfOwner(k)
		if _, known := t.names[key]; known && now.Sub(t.at) < 10*ownerStale || now.Sub(t.none[key]) < ownerStale {
			continue
		}
		if id == "" || t.at.Before(oldest) {
			id, oldest = p.id, t.at
		}
	}
	return id
}

// ask lets the porter look at a container, if it is not looking at one.
func (o *owners) ask(id string, now time.Time) bool {
	o.saved = min(o.saved+now.Sub(o.savedAt)/ownerShare, ownerSaved)
	if o.savedAt = now; o.asked != "" || o.saved <= 0 {
		return false
	}
	o.engine.mu.Lock()
	c := o.engine.containers[id]
	pid := 0
	if c != nil && c.kind == kindJoin {
		pid = c.pid
	}
	o.engine.mu.Unlock()
	if len(o.tables) > 4096 {
		clear(o.tables)
	}
	t := o.tables[id]
	if t == nil {
		t = &ownerTable{names: make(map[ownerKey]string)}
		o.tables[id] = t
	}
	if t.at = now; t.none == nil || len(t.none) > maxNotes {
		t.none = make(map[ownerKey]time.Time)
	}
	o.asked, o.since = id, time.Now()
	go func() {
		var list []porter.Owner
		if c != nil {
			if m, _, err := o.engine.porter.Call(porter.Message{Op: porter.OpOwners, Name: id, Pid: pid}); err == nil {
				_ = json.Unmarshal(m.Extra, &list)
			}
		}
		o.replies <- list
	}()
	return true
}

// take notes what the porter has found.
func (o *owners) take(list []porter.Owner) {
	if t := o.tables[o.asked]; t != nil {
		t.names = make(map[ownerKey]string, len(list))
		for _, x := range list {
			t.names[ownerKey{x.Proto, x.Port}] = x.Name + "[" + strconv.Itoa(x.Pid) + "]"
		}
	}
	o.saved -= time.Since(o.since)
	o.asked = ""
}
