package vswitch

// The flow cache of one port: what was decided for a frame with the same key
// before. Each port has its own, so that one port's misses never evict
// another's flows. Entries carry the sum of the generations they were decided
// under; generations only grow, so a sum is met again only while nothing
// changed.

const (
	cacheSets = 512
	cacheWays = 2
)

type cacheEntry struct {
	key    Key
	gen    uint64
	act    Action
	src    uint32 // FDB entry of the source, refreshed by hits
	srcGen uint32
	seen   uint32 // seconds
}

type flowCache struct {
	sets [cacheSets][cacheWays]cacheEntry
}

// lookup finds the entry of k, or nil. Whether it is still valid is for the
// caller to say by the generations.
func (c *flowCache) lookup(k *Key) *cacheEntry {
	set := &c.sets[k.hash()&(cacheSets-1)]
	if set[0].key == *k {
		return &set[0]
	}
	if set[1].key == *k {
		return &set[1]
	}
	return nil
}

// insert returns the entry to fill for k: its own, else the one unused longer.
func (c *flowCache) insert(k *Key) *cacheEntry {
	set := &c.sets[k.hash()&(cacheSets-1)]
	e := &set[0]
	switch {
	case set[0].key == *k:
	case set[1].key == *k, set[1].gen == 0, set[0].gen != 0 && set[1].seen < set[0].seen:
		e = &set[1]
	}
	*e = cacheEntry{key: *k}
	return e
}
