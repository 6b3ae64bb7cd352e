package configs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// Options say where Load looks.
type Options struct {
	File       string              // read this one; "": search
	Flags      *pflag.FlagSet      // those of AddFlags that it has and that were given count; nil: none
	Getenv     func(string) string // nil: os.Getenv
	SearchDirs []string            // nil: the usual ones, SearchDirs()
}

// Load reads, layers, decodes and validates the configuration. An error is one or more Problems, joined: all that
// are found, those of values that cannot be read before those of values that make no sense together.
func Load(opts Options) (*Config, error) {
	if opts.Getenv == nil {
		opts.Getenv = os.Getenv
	}
	path, data, err := read(opts)
	if err != nil {
		return nil, err
	}
	return load(opts, path, data)
}

// SearchDirs are the folders where Load looks for tapswitch.yaml, .yml, .toml or .json, the first found wins:
// the working directory, the user's, the system's.
func SearchDirs(getenv func(string) string) []string {
	dirs := []string{"."}
	if xdg := getenv("XDG_CONFIG_HOME"); filepath.IsAbs(xdg) { // a relative one is to be ignored: XDG base directories 0.8
		dirs = append(dirs, filepath.Join(xdg, "tapswitch"))
	} else if home := getenv("HOME"); home != "" {
		dirs = append(dirs, filepath.Join(home, ".config", "tapswitch"))
	}
	return append(dirs, "/etc/tapswitch")
}

// read returns the file's path and contents, "" and nil if none was named and none is found. A file that
// is there and cannot be read is an error, never passed over: the next one found would mean something else.
func read(opts Options) (string, []byte, error) {
	if opts.File != "" {
		data, err := readFile(opts.File)
		return opts.File, data, err
	}
	dirs := opts.SearchDirs
	if dirs == nil {
		dirs = SearchDirs(opts.Getenv)
	}
	for _, dir := range dirs {
		for _, ext := range extensions {
			path := filepath.Join(dir, "tapswitch."+ext)
			data, err := readFile(path)
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
				continue
			}
			return path, data, err
		}
	}
	return "", nil, nil
}

func readFile(path string) ([]byte, error) {
	cause := func(err error) string { // without the operation and the path, which the Problem has
		var pathErr *fs.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err
		}
		return err.Error()
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &Problem{File: path, Text: "no such file; name another with -c, or begin with the sample that `tapswitch config init` prints", err: err}
	}
	if err != nil {
		return nil, &Problem{File: path, Text: cause(err) + "; make it readable for you, or name another with -c", err: err}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, &Problem{File: path, Text: cause(err) + "; name a readable file with -c", err: err}
	}
	if len(data) > maxFile {
		return nil, &Problem{File: path, Text: fmt.Sprintf("is larger than %d bytes, too large for a configuration; name another file with -c", maxFile)}
	}
	return data, nil
}

// load is Load after reading; path "" is no file.
func load(opts Options, path string, data []byte) (*Config, error) {
	d := &decoder{}
	file := &fileDecoder{d: d, path: path}
	v, err := layer(file, opts, data)
	if err != nil {
		return nil, err
	}
	c := &Config{Path: path}
	for _, s := range settings {
		at, ok := v.Get(s.key).(value)
		if !ok { // a flag: viper knows its text or list, not our value
			at = s.fromFlag(flagText(v.Get(s.key)))
		}
		if below, ok := file.values[s.key].(value); ok && at.kind != "file" { // wrong in the file stays wrong under a flag
			hidden := &decoder{}
			s.set(hidden, below, &Config{})
			d.problems = append(d.problems, hidden.problems...)
		}
		d.note(s.key, at)
		s.set(d, at, c)
	}
	if at, ok := v.Get("networks").(value); ok {
		c.Networks = d.networks(at)
	}
	if len(c.Networks) == 0 {
		c.Networks = defaultNetworks()
	}
	if at, ok := v.Get("containers").(value); ok {
		c.Containers = d.containers(at, c.Networks)
	}
	for _, list := range []struct {
		key string
		set func(at value)
	}{
		{"rules", func(at value) { c.Rules = d.rules(at, ruleFields, "") }},
		{"routes", func(at value) { c.Routes = d.rules(at, routeFields, ActionRoute) }},
		{"egress", func(at value) { c.Egress = d.egress(at) }},
	} {
		if at, ok := v.Get(list.key).(value); ok {
			list.set(at)
		}
	}
	c.origins = d.origins
	problems := append(d.problems, consequences(d.problems, c.check())...)
	if err := join(problems); err != nil {
		return nil, err
	}
	return c, nil
}

// layer gives viper what each source says: flags over environment over file over defaults. The leaves are values
// of ours, which viper hands through as they are; they bring their origin. Keys hold dots: log.level is one key.
func layer(file *fileDecoder, opts Options, data []byte) (*viper.Viper, error) {
	v := viper.NewWithOptions(viper.KeyDelimiter("\x00"), viper.WithDecoderRegistry(file))
	for _, s := range settings {
		v.SetDefault(s.key, s.fallback())
	}
	v.SetConfigType(formatOf(file.path))
	if err := v.ReadConfig(bytes.NewReader(data)); err != nil {
		var parse viper.ConfigParseError
		if errors.As(err, &parse) { // ours underneath, without viper's words around it
			err = parse.Unwrap()
		}
		return nil, err
	}
	// Above the file, but not by BindEnv: that would ask the process's environment, not opts.Getenv.
	env := map[string]any{}
	for _, s := range settings {
		if text := opts.Getenv(s.env()); text != "" {
			env[s.key] = s.fromEnv(text)
		}
	}
	if err := v.MergeConfigMap(env); err != nil {
		return nil, err
	}
	if opts.Flags == nil {
		return v, nil
	}
	for _, s := range settings {
		if f := opts.Flags.Lookup(s.flag()); f != nil {
			if err := v.BindPFlag(s.key, f); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// flagText is a flag's value as one would type it, whatever type the flag has.
func flagText(v any) string {
	if list, ok := v.([]string); ok {
		return strings.Join(list, ",")
	}
	return fmt.Sprint(v)
}

// fileDecoder is viper's decoder of all formats. Unknown keys become problems of d; what cannot be parsed is an error.
type fileDecoder struct {
	d      *decoder
	path   string
	values sources // what the file says, also where something above hides it
}

func (f *fileDecoder) Decoder(string) (viper.Decoder, error) { return f, nil }

// Decode fills into with the file's values by setting: "networks", "host.loopback", ...
func (f *fileDecoder) Decode(data []byte, into map[string]any) error {
	root, err := parse(f.path, formatOf(f.path), data)
	if root == nil || err != nil {
		return err
	}
	f.values = sources{}
	keys(f.d, value{root, origin{kind: "file", name: f.path, line: root.Line}}, top, &f.values)
	maps.Copy(into, f.values)
	return nil
}
