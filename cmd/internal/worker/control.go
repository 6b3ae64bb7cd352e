package worker

import (
	"log/slog"
	"sync"

	"tapswitch/cmd/internal/engine"
	"tapswitch/cmd/internal/porter"
)

// control is what the configuration and the API steer in this process: the
// engine, the log, and further listeners.
type control struct {
	e     *engine.Engine
	c     *client
	log   *slog.Logger
	level *slog.LevelVar

	mu       sync.Mutex // one configuration after the other
	metrics  face
	readonly face
}

// apply makes a configuration the one in force, or notes why not: then nothing
// listens elsewhere than before.
func (x *control) apply(cfg *porter.Config) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	before := x.e.Config().Config
	fresh, err := x.open(cfg.Config)
	if err == nil {
		if err = x.e.Apply(*cfg); err != nil {
			fresh.drop(x)
		}
	}
	if err != nil {
		x.e.SetConfigError(err.Error())
		return err
	}
	x.take(fresh)
	if before == nil || before.LogLevel != cfg.Config.LogLevel { // else what was set while it ran holds
		setLevel(x.level, cfg.Config.LogLevel)
	}
	x.e.SetConfigError("")
	return nil
}

// close ends the further listeners.
func (x *control) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.metrics.close(x, "")
	x.readonly.close(x, "")
}
