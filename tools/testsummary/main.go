// Command testsummary reads the output of `go test -json` on standard input
// and prints what a person wants to see of it: one line per package, the whole
// output of what failed, and at the end the counts.
//
//	go test -json ./... | testsummary -name unit
//
// It exits with 1 when anything failed, and when no test ran at all.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/budecosystem/budcluster/tools/testsummary/summary"
)

func main() {
	name := flag.String("name", "tests", "what the summary line calls this run")
	verbose := flag.Bool("v", false, "print the output of passing tests too, as it comes")
	flag.Parse()

	s, err := summary.Read(os.Stdin, os.Stdout, *verbose)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsummary:", err)
		os.Exit(1)
	}
	if err := s.Print(os.Stdout, *name); err != nil {
		fmt.Fprintln(os.Stderr, "testsummary:", err)
		os.Exit(1)
	}
	if !s.OK() {
		os.Exit(1)
	}
}
