// Package sandbox is what the worker gives up before it reads the first byte of
// anybody else's: whoever takes it over by a crafted packet has its sockets and
// its state file, and neither the user's files nor another program.
//
//	stage.go     between porter and worker: what is lost once and for all (capabilities, files)
//	files.go     which files the worker may still open (Landlock)
//	seal.go      which system calls it may still make (seccomp)
//	syscalls.go  the list of them, each with who needs it
//	state.go     what is in force, for status
//
// It happens in two steps. Landlock and capabilities belong to threads, and a Go
// program has many before its first line: a stage gives them up on one thread
// and executes the worker from there, so that the worker has one domain from its
// beginning. The filter of system calls then forbids execve, too; the kernel
// sets it on all threads at once.
//
// What it does not do:
//
//   - A mount namespace instead of Landlock, where the kernel is older than 5.13.
//     Without root it takes a user namespace, and there the worker's peers on the
//     control socket have no names: root, who may use it, looks like anybody else.
//   - PR_SET_DUMPABLE. It would keep the user's other programs out of the worker,
//     not the worker in, and take /proc/PID of it from its own porter.
//   - Limits of the network. It is the worker's work to connect to anything.
//
// The worker may ask the porter for containers, as its users do: their commands
// run as the user. The sandbox makes that the only way out, a narrow one that
// leaves traces, and takes memory errors and mistakes in paths their effect.
package sandbox
