// Command bench reads the output of `go test -bench` on standard input and
// prints what the figures mean: each benchmark beside its baseline of the same
// run, and the product's promises beside what was measured.
//
//	go test -run='^$' -bench=. ./... | bench
//
// A baseline is a sub-benchmark called "direct" or "baseline"; its siblings
// are compared with it. A benchmark that measures both by turns reports a
// "ratio" itself. Absolute times on a shared machine say little, a ratio
// to something that ran a moment ago on the same machine does.
//
// With -packages it prints the packages that have benchmarks, so that the
// others need not be compiled.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/budecosystem/budcluster/deploy/bench/report"
)

func main() {
	packages := flag.Bool("packages", false, "print the packages below the current folder that have benchmarks, and stop")
	flag.Parse()
	if err := run(*packages, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(packages bool, in io.Reader, out io.Writer) error {
	if packages {
		found, err := report.Packages(os.DirFS("."))
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(out, strings.Join(found, "\n"))
		return err
	}
	results, err := report.Parse(io.TeeReader(in, out))
	if err != nil {
		return err
	}
	return report.Print(out, results, report.Promises())
}
