package engine

import (
	"tapswitch/cmd/internal/api"
	"tapswitch/configs"
	"tapswitch/switch"
)

// shape is what the container's interfaces are held to.
func (c *container) shape() *configs.Shape {
	if c.kind == kindJoin {
		return &c.reserve.Shape
	}
	return &c.create.Shape
}

// shapeOf is a shape as ports know it, and the flows that one may have. It has
// been checked.
func shapeOf(s *configs.Shape) (vswitch.Shape, int) {
	n, err := s.Numbers()
	if err != nil {
		return vswitch.Shape{}, 0
	}
	return vswitch.Shape{RateIn: n.RateIn, RateOut: n.RateOut, BurstIn: n.Burst, BurstOut: n.Burst, Delay: int64(n.Delay), Jitter: int64(n.Jitter), Loss: n.Loss}, n.Flows
}

// checkShape says what is wrong with a shape.
func checkShape(s configs.Shape) error {
	if _, err := s.Numbers(); err != nil {
		return api.Errorf(api.BadRequest, "%v", err)
	}
	return nil
}

// Update changes what a container's interfaces are held to, at once.
func (e *Engine) Update(name string, change configs.Shape) (*api.Container, error) {
	c, _, err := e.look(name)
	if err != nil {
		return nil, err
	}
	c.changing.Lock()
	defer c.changing.Unlock()
	e.mu.Lock()
	want := c.shape().With(change)
	if err := checkShape(want); err != nil {
		e.mu.Unlock()
		return nil, err
	}
	*c.shape() = want
	eps := c.endpoints
	e.mu.Unlock()
	shape, flows := shapeOf(&want)
	c.wiring.Lock()
	for _, ep := range eps {
		if ep.seat != nil {
			e.path.SetShape(ep.seat, shape)
			e.path.Shards[ep.seat.Shard].Do(func() { ep.seat.Port.Flows = flows })
		}
	}
	c.wiring.Unlock()
	e.save()
	return e.Container(name)
}
