//go:build !noisolation

package nat

// isolate keeps bridges apart. The build tag noisolation switches it off: a
// test builds the switch so and expects that `tapswitch demo` notices.
const isolate = true
