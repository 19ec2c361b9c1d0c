// Package sysfs reads the small text files of /proc and /sys below a root that
// is handed in, and gathers a sentence for each that could not be read.
//
// What is not there, and what a driver says does not apply, is unknown and no
// problem. What is there and makes no sense is dropped and told of. Nothing
// here writes, and nothing outside of the root is opened as long as the root
// is an os.DirFS of the host's /: the links of sysfs are relative.
//
// A read of sysfs asks a driver, which may take its time. Callers read on a
// goroutine of their own and not while they hold a lock.
package sysfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"
)

const (
	// maxFile is more than any file that is worth reading: /proc/cpuinfo, the
	// largest, has some 1.6 KiB a thread, and Linux stops at 8192 of them.
	maxFile = 16 << 20
	// maxNames bounds a folder. A node with 8192 CPUs has the largest.
	maxNames = 1 << 14
	// maxText bounds one fact, and maxQuoted a bad one in a sentence.
	maxText   = 256
	maxQuoted = 64
	// maxProblems bounds the sentences.
	maxProblems = 64
)

// Reader reads below one root. It is for one goroutine.
type Reader struct {
	root     fs.FS
	buf      []byte
	problems []string
}

// New makes a reader of the files below root, in which /proc and /sys are proc
// and sys.
func New(root fs.FS) *Reader { return &Reader{root: root, buf: make([]byte, 0, 4096)} }

// Problem adds a sentence.
func (r *Reader) Problem(format string, args ...any) {
	if len(r.problems) < maxProblems {
		r.problems = append(r.problems, fmt.Sprintf(format, args...))
	}
}

// Problems are the sentences so far, sorted and each once.
func (r *Reader) Problems() []string {
	slices.Sort(r.problems)
	return slices.Compact(r.problems)
}

// Bytes reads a file whole. The result is valid until the next call of any
// method, and nil when the file is absent, empty or cannot be read.
func (r *Reader) Bytes(name string) []byte {
	file, err := r.root.Open(name)
	if err != nil {
		r.failed(name, err)
		return nil
	}
	defer func() { _ = file.Close() }()
	r.buf = r.buf[:0]
	for {
		if len(r.buf) == cap(r.buf) {
			r.buf = slices.Grow(r.buf, cap(r.buf))
		}
		n, err := file.Read(r.buf[len(r.buf):cap(r.buf)])
		r.buf = r.buf[:len(r.buf)+n]
		switch {
		case errors.Is(err, io.EOF) && len(r.buf) == 0:
			return nil
		case errors.Is(err, io.EOF):
			return r.buf
		case err != nil:
			r.failed(name, err)
			return nil
		case len(r.buf) > maxFile:
			r.Problem("/%s is larger than %d bytes, so it is ignored", name, maxFile)
			return nil
		}
	}
}

// failed tells of an error, unless it only means that there is nothing to
// know: files that are absent, and attributes that a driver does not support
// in the state that it is in, such as the speed of a port without a cable.
func (r *Reader) failed(name string, err error) {
	for _, quiet := range []error{
		fs.ErrNotExist, syscall.ENOTDIR, syscall.EINVAL, syscall.ENODEV, syscall.ENXIO, syscall.ENODATA, syscall.EOPNOTSUPP,
	} {
		if errors.Is(err, quiet) {
			return
		}
	}
	r.Problem("/%s cannot be read, so what it says is unknown: %v", name, cause(err))
}

// cause leaves out the path that the error repeats.
func cause(err error) error {
	if at := new(fs.PathError); errors.As(err, &at) {
		return at.Err
	}
	return err
}

// Text reads a file that is one line of text. It is empty when unknown.
func (r *Reader) Text(name string) string { return Clean(r.Bytes(name)) }

// Clean makes one line of printable text of bytes that anybody may have
// written, cut to 256 bytes.
func Clean(data []byte) string {
	data = bytes.TrimSpace(bytes.Trim(data, "\x00"))
	if len(data) > maxText {
		data = data[:maxText]
		for len(data) > 0 && !utf8.RuneStart(data[len(data)-1]) {
			data = data[:len(data)-1]
		}
	}
	return strings.TrimSpace(strings.Map(func(c rune) rune {
		switch {
		case c == utf8.RuneError || c == '\x00':
			return -1
		case !unicode.IsPrint(c):
			return ' '
		}
		return c
	}, string(data)))
}

// Quote shows a bad value in a sentence.
func Quote(data []byte) string {
	data = bytes.TrimSpace(data)
	if len(data) > maxQuoted {
		return strconv.Quote(string(data[:maxQuoted])) + "…"
	}
	return strconv.Quote(string(data))
}

// Int reads a file that is a decimal number from low to high, and nil when
// that is unknown.
func (r *Reader) Int(name string, low, high int64) *int64 {
	data := r.Bytes(name)
	if data == nil {
		return nil
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(data)), 10, 64)
	if err != nil || n < low || n > high {
		r.Problem("/%s is %s and not a number from %d to %d, so it is ignored", name, Quote(data), low, high)
		return nil
	}
	return &n
}

// Int32 is Int for what fits into 32 bits.
func (r *Reader) Int32(name string, low, high int32) *int32 {
	n := r.Int(name, int64(low), int64(high))
	if n == nil {
		return nil
	}
	return new(int32(*n)) //nolint:gosec // Int keeps it between low and high
}

// NUMANode reads a device's numa_node, in which -1 is none
// (Documentation/ABI/testing/sysfs-bus-pci).
func (r *Reader) NUMANode(name string) *int32 {
	n := r.Int32(name, -1, MaxNUMANode)
	if n == nil || *n < 0 {
		return nil
	}
	return n
}

// MaxNUMANode is above the 1024 nodes that Linux can be built for
// (CONFIG_NODES_SHIFT is at most 10).
const MaxNUMANode = 1 << 12

// Hex reads an identifier in the form of PCI's files, 0x and digits, and gives
// the digits in lower case. It is empty when unknown.
func (r *Reader) Hex(name string, digits int) string {
	data := r.Bytes(name)
	if data == nil {
		return ""
	}
	id, ok := hex(data, digits)
	if !ok {
		r.Problem("/%s is %s and not 0x with %d hexadecimal digits, so it is ignored", name, Quote(data), digits)
	}
	return id
}

func hex(data []byte, digits int) (string, bool) {
	id, ok := bytes.CutPrefix(bytes.ToLower(bytes.TrimSpace(data)), []byte("0x"))
	if !ok || len(id) != digits || !isHex(string(id)) {
		return "", false
	}
	return string(id), true
}

func isHex(s string) bool { return s != "" && strings.Trim(s, "0123456789abcdef") == "" }

// Link gives the target of a link as it is written, and nothing when there is
// no such link.
func (r *Reader) Link(name string) string {
	target, err := fs.ReadLink(r.root, name)
	if err != nil {
		return ""
	}
	return target
}

// LinkName gives the last part of a link's target: sysfs points by it to a
// driver, a module, a group, a device.
func (r *Reader) LinkName(name string) string {
	target := r.Link(name)
	if target == "" {
		return ""
	}
	return Clean([]byte(path.Base(target)))
}

// Exists reports whether there is such a file, folder or link to one.
func (r *Reader) Exists(name string) bool {
	_, err := fs.Stat(r.root, name)
	return err == nil
}

// Names lists a folder, sorted. It is empty when the folder is absent.
func (r *Reader) Names(dir string) []string {
	entries, err := fs.ReadDir(r.root, dir)
	if err != nil {
		r.failed(dir, err)
	}
	if len(entries) > maxNames {
		r.Problem("/%s has %d entries; the first %d are read", dir, len(entries), maxNames)
		entries = entries[:maxNames]
	}
	names := make([]string, 0, len(entries))
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// Numbered lists those names of a folder that are a prefix and a number, by
// number: cpu0, cpu1, cpu10. Others, such as cpufreq, are not meant.
func (r *Reader) Numbered(dir, prefix string) []string {
	type numbered struct {
		name   string
		number uint64
	}
	var found []numbered
	for _, name := range r.Names(dir) {
		digits, ok := strings.CutPrefix(name, prefix)
		if !ok || digits == "" || strings.Trim(digits, "0123456789") != "" {
			continue
		}
		if n, err := strconv.ParseUint(digits, 10, 32); err == nil {
			found = append(found, numbered{name, n})
		}
	}
	slices.SortStableFunc(found, func(a, b numbered) int { return int(a.number) - int(b.number) }) //nolint:gosec // 32 bits each
	names := make([]string, 0, len(found))
	for _, f := range found {
		names = append(names, f.name)
	}
	return names
}

// PCIAddress reports whether a name is a device's place on PCI: domain, bus,
// device and function, e.g. 0000:17:00.0. Domains behind Intel's VMD have five
// digits and more.
func PCIAddress(name string) bool {
	domain, rest, ok := strings.Cut(name, ":")
	bus, rest, more := strings.Cut(rest, ":")
	device, function, last := strings.Cut(rest, ".")
	return ok && more && last && len(domain) >= 4 && len(domain) <= 8 && len(bus) == 2 && len(device) == 2 && len(function) == 1 &&
		isHex(domain) && isHex(bus) && isHex(device) && function[0] >= '0' && function[0] <= '7'
}
