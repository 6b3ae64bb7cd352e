package configs

import (
	"embed"
	"strings"
)

//go:embed systemd apparmor
var files embed.FS

// packaged is where the files that name the program expect it.
const packaged = "/usr/bin/tapswitch"

// Unit is a systemd unit, by its name and whose manager it is for: user or system. Its program is the one
// at path program.
func Unit(whose, name, program string) ([]byte, error) {
	return forProgram("systemd/"+whose+"/"+name, strings.ReplaceAll(strings.ReplaceAll(program, "%", "%%"), " ", `\x20`))
}

// AppArmor is the profile that lets the program at path program make user namespaces.
func AppArmor(program string) ([]byte, error) {
	if strings.ContainsAny(program, " \"") {
		program = `"` + strings.ReplaceAll(program, `"`, `\"`) + `"`
	}
	return forProgram("apparmor/tapswitch", program)
}

func forProgram(file, program string) ([]byte, error) {
	b, err := files.ReadFile(file)
	return []byte(strings.ReplaceAll(string(b), packaged, program)), err
}
