package place

// Runtime is the user's directory for our sockets, and whether the user is root
// of the machine.
func Runtime() (dir string, root bool, err error) {
	uid, initial := realUID()
	dir, err = runtimeDir()
	return dir, uid == 0 && initial, err
}
