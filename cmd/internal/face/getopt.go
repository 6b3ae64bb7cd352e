package face

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// Longest is the whole name of an option that was given as short as it is
// unambiguous (getopt_long(3)).
func Longest(fl *pflag.FlagSet, given string) string {
	found, several, exact := "", false, false
	fl.VisitAll(func(f *pflag.Flag) {
		switch {
		case f.Name == given:
			exact = true
		case strings.HasPrefix(f.Name, given):
			several = found != ""
			found = f.Name
		}
	})
	if exact || several || found == "" {
		return given
	}
	return found
}

// Getopt says what is wrong with an option in the C library's words, which
// callers look for.
func Getopt(name string, err error) string {
	var none *pflag.NotExistError
	var value *pflag.ValueRequiredError
	var bad *pflag.InvalidValueError
	switch {
	case errors.As(err, &none) && none.GetSpecifiedShortnames() != "":
		return fmt.Sprintf("%s: invalid option -- '%s'", name, none.GetSpecifiedName())
	case errors.As(err, &none):
		return fmt.Sprintf("%s: unrecognized option '--%s'", name, none.GetSpecifiedName())
	case errors.As(err, &value) && value.GetSpecifiedShortnames() != "":
		return fmt.Sprintf("%s: option requires an argument -- '%s'", name, value.GetSpecifiedName())
	case errors.As(err, &value):
		return fmt.Sprintf("%s: option '--%s' requires an argument", name, value.GetSpecifiedName())
	case errors.As(err, &bad) && bad.GetFlag().Value.Type() == "bool":
		return fmt.Sprintf("%s: option '--%s' doesn't allow an argument", name, bad.GetFlag().Name)
	case errors.As(err, &bad):
		return fmt.Sprintf("%s: option '--%s': %s is not what it takes", name, bad.GetFlag().Name, bad.GetValue())
	}
	return fmt.Sprintf("%s: %v", name, err)
}
