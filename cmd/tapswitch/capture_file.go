package main

import (
	"bufio"
	"fmt"
	"io"
	"os"

	"tapswitch/cmd/internal/capture"
)

// blockFile takes a capture's blocks.
type blockFile interface {
	write(kind uint32, raw []byte) error
	flush() error // nothing more is there for now
}

// copyBlocks writes a capture block by block, up to the number of packets that is
// asked for.
func (f *captureFlags) copyBlocks(from io.Reader, to blockFile) error {
	blocks := capture.NewBlocks(from)
	n := 0
	for f.count == 0 || n < f.count {
		kind, raw, err := blocks.Next()
		if err != nil {
			return ended(err)
		}
		err = to.write(kind, raw)
		if err == nil && blocks.Buffered() == 0 {
			err = to.flush()
		}
		if err != nil {
			return ended(err)
		}
		if capture.IsPacket(kind) {
			n++
		}
	}
	return nil
}

// onePipe is standard output.
type onePipe struct{ w io.Writer }

func (o *onePipe) write(_ uint32, raw []byte) error { _, err := o.w.Write(raw); return err }

func (o *onePipe) flush() error { return nil }

// rotation is a file that goes over to another when it is full, each of which
// begins with all that a reader needs to know. They are named as tcpdump's.
type rotation struct {
	name  string
	limit int64 // bytes; 0 for none
	files int   // 0 for any number

	f       *os.File
	w       *bufio.Writer
	head    []byte // section, interfaces and names so far
	written int64
	count   int // files begun
}

// path is the n-th file's: FILE, FILE1, FILE2; where their number is bounded
// FILE0 and so on, with as many digits for each.
func (r *rotation) path(n int) string {
	switch {
	case r.limit == 0:
		return r.name
	case r.files > 0:
		return fmt.Sprintf("%s%0*d", r.name, len(fmt.Sprint(r.files-1)), n%r.files)
	case n > 0:
		return fmt.Sprintf("%s%d", r.name, n)
	}
	return r.name
}

// next begins a file.
func (r *rotation) next(head []byte) error {
	if err := r.close(); err != nil {
		return err
	}
	f, err := os.Create(r.path(r.count))
	if err != nil {
		return err
	}
	r.count++
	r.f, r.w, r.written = f, bufio.NewWriterSize(f, 64<<10), int64(len(head))
	_, err = r.w.Write(head)
	return err
}

func (r *rotation) write(kind uint32, raw []byte) error {
	if r.limit > 0 {
		if capture.IsHead(kind) {
			r.head = append(r.head, raw...)
		} else if r.written+int64(len(raw)) > r.limit && r.written > int64(len(r.head)) {
			if err := r.next(r.head); err != nil {
				return err
			}
		}
	}
	r.written += int64(len(raw))
	_, err := r.w.Write(raw)
	return err
}

func (r *rotation) flush() error { return r.w.Flush() }

func (r *rotation) close() error {
	if r.f == nil {
		return nil
	}
	err := r.w.Flush()
	if cerr := r.f.Close(); err == nil {
		err = cerr
	}
	r.f = nil
	return err
}
