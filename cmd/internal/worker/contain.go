package worker

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"

	"tapswitch/cmd/internal/api"
	"tapswitch/cmd/internal/sandbox"
)

// contain finishes what the stage before us began, before the first byte of
// anybody else's is read, and says what is in force. What the kernel cannot do
// is logged; in mode strict it is an error.
func contain(mode string, log *slog.Logger) (api.Sandbox, error) {
	if mode == "off" {
		s := sandbox.State(0)
		s.Mode = mode
		log.Warn("the sandbox is off: a mistake in the worker is one in your account")
		return s, nil
	}
	version := 0
	if len(os.Args) > 1 {
		version, _ = strconv.Atoi(os.Args[1])
	}
	err := sandbox.Seal()
	if version == 0 {
		err = errors.Join(err, errors.New("this kernel has no Landlock, or it is not on (Linux 5.13, lsm=landlock,...)"))
	}
	switch {
	case err != nil && mode == "strict":
		return api.Sandbox{}, fmt.Errorf("sandbox: strict: %w; sandbox: on goes on without", err)
	case err != nil:
		log.Warn("sandbox", "missing", err)
	}
	s := sandbox.State(version)
	s.Mode = mode
	log.Debug("sandbox", "in force", s.String())
	return s, nil
}
