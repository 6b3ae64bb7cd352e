package configs

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Problem is one thing wrong with a configuration: where, which key, what, and what would be right.
// Load and Validate return them joined (errors.Join), in the file's order.
type Problem struct {
	File string // "": not from a file
	Line int    // 1 is the first; 0: not known
	Key  string // as written: "networks[0].mtu", "TAPSWITCH_LOG_LEVEL", "--log-level"; "": the file as a whole
	Text string // cause; next step

	err   error  // what the system said, if it did
	meant string // the key that an unknown one was probably meant to be
}

// Error is FILE:LINE: KEY: TEXT without the parts that are not known.
func (p *Problem) Error() string {
	var parts []string
	switch {
	case p.File != "" && p.Line > 0:
		parts = append(parts, fmt.Sprintf("%s:%d", p.File, p.Line))
	case p.File != "":
		parts = append(parts, p.File)
	}
	if p.Key != "" {
		parts = append(parts, p.Key)
	}
	return strings.Join(append(parts, p.Text), ": ")
}

// Unwrap lets errors.Is find fs.ErrNotExist and its like.
func (p *Problem) Unwrap() error { return p.err }

// oneLine is text that was not written here, with what would break the line of an error in escapes.
func oneLine(text string) string {
	if text == "" {
		return `""`
	}
	var b strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}

// maxProblems bounds what a file that is no configuration at all can print.
const maxProblems = 100

// join returns nil for no problems, else all of them, sorted by line; those without a line come last.
func join(problems []*Problem) error {
	slices.SortStableFunc(problems, func(a, b *Problem) int {
		if (a.Line == 0) != (b.Line == 0) {
			return cmp.Compare(b.Line, a.Line)
		}
		return cmp.Compare(a.Line, b.Line)
	})
	var errs []error
	for i, p := range problems {
		if i == maxProblems {
			errs = append(errs, fmt.Errorf("%d more problems; mend those above first", len(problems)-i))
			break
		}
		errs = append(errs, p)
	}
	return errors.Join(errs...)
}

// consequences drops from later the problems that one of earlier explains: about the same key, a part of
// it, the whole that it is a part of, or the key that an unknown one was meant to be. A network that could
// not be read also explains that it is missed.
func consequences(earlier, later []*Problem) []*Problem {
	explained := func(p *Problem) bool {
		return slices.ContainsFunc(earlier, func(e *Problem) bool {
			return within(p.Key, e.Key) || within(e.Key, p.Key) || p.Key == e.meant ||
				strings.HasPrefix(p.Text, noNetwork) && (networkLost.MatchString(e.Key) || networkLost.MatchString(e.meant))
		})
	}
	return slices.DeleteFunc(later, explained)
}

// networkLost is the key of a problem that keeps a network's name from being known.
var networkLost = regexp.MustCompile(`^networks(\[\d+\](\.name)?)?$`)

// within says whether key is whole or a part of it: networks[0].mtu of networks[0], not networks[10] of networks[1].
func within(key, whole string) bool {
	rest, ok := strings.CutPrefix(key, whole)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// meant are words of neighbouring tools and what they are called here.
var meant = map[string]string{
	"address": "ip", "cidr": "subnet", "cmd": "command", "container": "containers", "cwd": "workdir",
	"entrypoint": "command", "environment": "env", "interface": "ifname", "ipv4_address": "ip", "ipv6_address": "ip6",
	"ipv6": "subnet6", "logging": "log", "mac_address": "mac", "nameserver": "upstream", "nameservers": "upstream",
	"network": "networks", "port": "publish", "ports": "publish", "server": "upstream", "servers": "upstream",
	"services": "containers", "statefile": "state_file", "working_dir": "workdir",
}

// nearest returns the word of known that word was probably meant to be, "" if none is near.
func nearest(word string, known []string) string {
	plain := strings.ReplaceAll(strings.ToLower(word), "-", "_")
	if m := meant[plain]; slices.Contains(known, m) {
		return m
	}
	best, limit := "", min(len(plain)/2, 2)+1 // exclusive: abc may differ in one letter, abcd in two
	if len(plain) > 64 {                      // no key is; distance is quadratic
		return ""
	}
	for _, k := range known {
		if d := distance(plain, strings.ToLower(k)); d < limit {
			best, limit = k, d
		}
	}
	return best
}

// distance is Levenshtein's: how many letters to insert, drop or change between a and b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
