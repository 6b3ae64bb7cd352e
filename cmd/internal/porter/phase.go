package porter

// Phase is what a service manager is told of a switch's life.
type Phase int

// Phases.
const (
	Ready     Phase = iota // again, after Reloading; the first time Options.Ready tells
	Reloading              // SIGHUP has come
	Stopping
)

func (p *porter) phase(x Phase) {
	if p.opt.Phase != nil {
		p.opt.Phase(x)
	}
}

// OpReloaded is the worker's word that a reload which it did not ask for is
// through, well or not.
const OpReloaded = "reloaded"
