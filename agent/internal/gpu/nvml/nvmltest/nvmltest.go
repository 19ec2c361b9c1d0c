// Package nvmltest builds a stand-in of libnvidia-ml.so.1 and says what it answers.
// The stand-in is in standin/nvml.c; it is loaded as the real one is, so that all
// between a program and the library is real.
package nvmltest

import (
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Library is the stand-in's file name, which is the real one's.
const Library = "libnvidia-ml.so.1"

// Old is a flag for Build that leaves out what the library of driver 470 has not.
const Old = "-DOLD"

//go:embed standin/nvml.c
var source string

// Build compiles the stand-in into a folder, with $CC or cc.
func Build(dir string, flags ...string) error {
	compiler := os.Getenv("CC")
	if compiler == "" {
		compiler = "cc"
	}
	path, err := exec.LookPath(compiler)
	if err != nil {
		return fmt.Errorf("the stand-in of %s is written in C and there is no compiler %q; install gcc, or name one in CC: %w", Library, compiler, err)
	}
	args := append([]string{"-shared", "-fPIC", "-O2", "-w", "-x", "c", "-", "-o", filepath.Join(dir, Library), "-lpthread", "-ldl"}, flags...)
	cmd := exec.Command(path, args...)
	cmd.Stdin = strings.NewReader(source)
	if out, err := cmd.CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("compile the stand-in of %s: %w", Library, err), errors.New(string(out)))
	}
	return nil
}

// State is what the stand-in answers: by device ("0", its MIG devices "0.0", "-"
// for the library) and function.
type State map[string]map[string]string

// Set says what a device answers to a function, with arguments after dots.
func (s State) Set(device, function, format string, args ...any) {
	if s[device] == nil {
		s[device] = map[string]string{}
	}
	s[device][function] = fmt.Sprintf(format, args...)
}

// Write gives the state to the stand-in in a folder. It holds from the next call
// on: the file is replaced at once, and each is newer than the last.
func (s State) Write(dir string, edition int) error {
	var text strings.Builder
	for _, device := range slices.Sorted(maps.Keys(s)) {
		for _, function := range slices.Sorted(maps.Keys(s[device])) {
			fmt.Fprintf(&text, "%s %s = %s\n", device, function, s[device][function])
		}
	}
	path := filepath.Join(dir, "nvml.state")
	if err := os.WriteFile(path+".new", []byte(text.String()), 0o600); err != nil {
		return err
	}
	at := time.Unix(int64(edition), 0)
	if err := os.Chtimes(path+".new", at, at); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
