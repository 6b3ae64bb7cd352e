//go:build noisolation

package nat

const isolate = false
