package engine

import (
	"slices"
	"strings"
	"sync"
	"time"

	"tapswitch/cmd/internal/api"
	"tapswitch/forward"
)

// questionFailures are the words for what DNS could not answer, by who did not.
var questionFailures = map[string]struct{ why, remedy string }{
	"nxdomain":  {"There is no such name.", "Check the spelling; names of containers are known to those that share a network with them."},
	"refused":   {"The container's egress policy does not hold the name.", "Add it to the policy: `tapswitch egress add`."},
	"internal":  {"The container's networks are internal: other names than their own are not asked for.", "Put the container on another network, too."},
	"busy":      {"Too many questions wait for an upstream.", "Ask less, or a quicker upstream: `dns: {upstream: [...]}`."},
	"timed-out": {"No upstream has answered in time.", "Try it from the host; `tapswitch dns` shows what each upstream does; others: `dns: {upstream: [...]}`."},
	"servfail":  {"Every upstream has failed to answer.", "Try it from the host; `tapswitch dns` shows what each upstream does; others: `dns: {upstream: [...]}`."},
	"failed":    {"The answer is an error.", "Ask the upstream's owner."},
}

// reasonOf names why a question failed; "" if it did not.
func reasonOf(q *api.Question) string {
	switch {
	case q.Rcode == "NOERROR" || q.Rcode == "":
		return ""
	case q.By == forward.ByPolicy:
		return "refused"
	case q.By == forward.ByInternal:
		return "internal"
	case q.By == forward.ByLimit:
		return "busy"
	case q.TimedOut:
		return "timed-out"
	case q.Rcode == "NXDOMAIN", q.Rcode == "SERVFAIL":
		return strings.ToLower(q.Rcode)
	}
	return "failed"
}

// questionLog is the latest questions to our DNS.
type questionLog struct {
	mu   sync.Mutex
	ring []api.Question
	next int
}

const keptQuestions = 1000

func (l *questionLog) add(q api.Question) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.ring) < keptQuestions {
		l.ring = append(l.ring, q)
		return
	}
	l.ring[l.next] = q
	l.next = (l.next + 1) % keptQuestions
}

// all are the questions in their order.
func (l *questionLog) all() []api.Question {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append(slices.Clone(l.ring[l.next:]), l.ring[:l.next]...)
}

// failures are the questions that came to nothing, equal ones merged.
func (l *questionLog) failures() (out []api.Failure) {
	type key struct{ container, name, typ, reason string }
	at := make(map[key]int)
	for _, q := range l.all() {
		reason := reasonOf(&q)
		if reason == "" {
			continue
		}
		k := key{q.Container, q.Name, q.Type, reason}
		if i, is := at[k]; is {
			out[i].Count++
			out[i].Last = q.Time
			continue
		}
		at[k] = len(out)
		text := questionFailures[reason]
		to := q.Type + " " + q.Name
		out = append(out, api.Failure{First: q.Time, Last: q.Time, Count: 1, Container: q.Container, Interface: q.Container, Network: q.Network, Direction: "out", Protocol: "dns",
			From: q.Client, To: to, Step: "dns", Reason: reason, Why: text.why, Remedy: text.remedy})
	}
	return out
}

// DNS shows the latest questions, those of one container or of all, and what
// upstreams were asked.
func (e *Engine) DNS(name string, last int) *api.DNS {
	out := &api.DNS{Upstreams: []api.Upstream{}, Questions: []api.Question{}}
	for _, u := range e.dns.UpstreamStats() {
		x := api.Upstream{Address: u.Upstream.String(), Asked: u.Asked, Answered: u.Answered, Failed: u.Failed, Timeouts: u.Timeouts}
		if u.Answered > 0 {
			x.MeanMs = u.Took.Seconds() * 1e3 / float64(u.Answered)
		}
		out.Upstreams = append(out.Upstreams, x)
	}
	for _, q := range e.questions.all() {
		if name == "" || q.Container == name {
			out.Questions = append(out.Questions, q)
		}
	}
	if last > 0 {
		out.Questions = out.Questions[max(0, len(out.Questions)-last):]
	}
	return out
}

// answered is forward.DNSConfig.Answered: it keeps the question, and tells those
// who follow.
func (e *Engine) answered(a forward.Answered) {
	bridge, client, _ := strings.Cut(a.Bridge, " ")
	q := api.Question{Time: time.Now().UTC().Truncate(time.Millisecond), Container: e.table.Load().owners[a.Bridge], Network: bridge, Client: client,
		Name: a.Name, Type: a.Type, Rcode: a.Rcode, By: a.By, TimedOut: a.TimedOut, TookMs: float64(a.Took.Microseconds()) / 1e3}
	if a.Upstream.IsValid() {
		q.Upstream = a.Upstream.String()
	}
	e.questions.add(q)
	if e.events.followed() {
		e.tell(api.Event{Type: "dns", Action: "answered", Container: q.Container, Network: q.Network, Question: &q})
	}
}
