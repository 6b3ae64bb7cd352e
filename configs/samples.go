package configs

import (
	"bytes"
	_ "embed"
)

//go:embed sample.yaml
var sample []byte

//go:embed demo.yaml
var demo []byte

// Sample is a configuration that shows each key with its default and says what it does. It is valid as it
// stands, and so are the examples that stand in it as comments. The caller owns it.
func Sample() []byte { return bytes.Clone(sample) }

// Demo is the configuration of `tapswitch demo`: two bridges, three containers. The caller owns it.
func Demo() []byte { return bytes.Clone(demo) }

//go:embed grafana.json
var dashboard []byte

// Dashboard is a Grafana dashboard of the switch's metrics. The caller owns it.
func Dashboard() []byte { return bytes.Clone(dashboard) }
