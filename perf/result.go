package main

// A row is judged from judgedRounds rounds on, if its spread is not above noisy.
const (
	judgedRounds = 3
	noisy        = 0.15
)

// A result is what one peer yielded in one row.
type result struct {
	Peer    string
	Values  map[string]series // by metric id, one value for each round that went well
	Failed  []string          // why rounds did not
	Missing string            // why there was no round at all
}

// add takes the sample of one round, or the reason why there is none.
func (r *result) add(s sample, err error) {
	if err != nil {
		r.Failed = append(r.Failed, err.Error())
		return
	}
	if r.Values == nil {
		r.Values = map[string]series{}
	}
	for id, v := range s {
		r.Values[id] = append(r.Values[id], v)
	}
}

// hopeless says that further rounds would only cost their time limit.
func (r *result) hopeless() bool { return r.Values == nil && len(r.Failed) >= 2 }

// measured says whether there is a value of a metric.
func (r *result) measured(id string) bool { return len(r.Values[id]) > 0 }

// noisy says whether the values of a metric lie too far apart to be judged.
func (r *result) noisy(id string) bool {
	return !metrics[id].few && r.Values[metrics[id].judgedBy()].spread() > noisy
}

// A rowResult is a row with what each peer yielded, in the order of the peers;
// peers that do not have the row's path are left out.
type rowResult struct {
	row     row
	results []*result
}

// of returns a peer's result, or nil.
func (r rowResult) of(peer string) *result {
	for _, res := range r.results {
		if res.Peer == peer {
			return res
		}
	}
	return nil
}
