package capture

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// A ring has what came last, whole and in order, whatever its size and theirs.
func TestRing(t *testing.T) {
	for _, size := range []int{200, 1000, 1001, 4099, 1 << 16} {
		rng := rand.New(rand.NewPCG(1, uint64(size)))
		r := NewRing(size)
		var put []Kept
		for i := range 3000 {
			k := Kept{From: uint32(i), To: uint32(i * 2), Dropped: i%3 == 0,
				Packet: Packet{Time: time.Unix(0, int64(i)), Received: i%2 == 0, Length: i, Data: bytes.Repeat([]byte{byte(i)}, rng.IntN(100)), Comment: strings.Repeat("x", rng.IntN(60))}}
			r.Put(&k)
			put = append(put, k)
			if i%100 != 99 {
				continue
			}
			var got []Kept
			bytesKept := 0
			r.Each(func(k *Kept) {
				x := *k
				x.Data = bytes.Clone(k.Data)
				got = append(got, x)
				bytesKept += keptHead + len(k.Data) + len(k.Comment)
			})
			if len(got) == 0 || bytesKept > size || i > 2000 && bytesKept < size-2*(keptHead+160) {
				t.Fatalf("size %d: %d packets with %d bytes", size, len(got), bytesKept)
			}
			for j, g := range got {
				w := put[len(put)-len(got)+j]
				if g.From != w.From || g.To != w.To || g.Dropped != w.Dropped || !g.Time.Equal(w.Time) || g.Received != w.Received || g.Length != w.Length || !bytes.Equal(g.Data, w.Data) || g.Comment != w.Comment {
					t.Fatalf("size %d: packet %d of %d is %+v, want %+v", size, j, len(got), g, w)
				}
			}
		}
	}
	small := NewRing(20)
	small.Put(&Kept{Packet: Packet{Data: make([]byte, 100)}})
	small.Each(func(*Kept) { t.Error("what does not fit is there") })
}
