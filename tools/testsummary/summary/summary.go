// Package summary counts what `go test -json` reports.
//
// A test is counted when it is a leaf: a test with subtests stands for them
// and is not counted itself, so that the numbers are those of the cases.
package summary

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Summary is what came out of a run.
type Summary struct {
	Packages int // packages with tests
	Passed   int
	Failed   int
	Skipped  int
	// Broken are packages that failed for another reason than a test: they do
	// not build, panic, or their TestMain gave up.
	Broken []string
	// FailedTests are the names of the failed tests, with their package.
	FailedTests []string
	// SkippedTests are the names and reasons of the skipped tests.
	SkippedTests []string
}

// OK says whether something ran and nothing failed.
func (s *Summary) OK() bool {
	return s.Failed == 0 && len(s.Broken) == 0 && s.Passed > 0
}

// event is one line of `go test -json` (go doc test2json).
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Elapsed    float64
	Output     string
}

type testID struct{ pkg, test string }

type reader struct {
	out     io.Writer
	verbose bool

	s       Summary
	output  map[testID][]string // what each running test has printed
	results map[testID]string   // the action that ended it
	builds  map[string][]string // what the compiler printed
}

// Read reads a whole run, and prints its progress to out.
func Read(in io.Reader, out io.Writer, verbose bool) (*Summary, error) {
	r := &reader{
		out: out, verbose: verbose,
		output: map[testID][]string{}, results: map[testID]string{}, builds: map[string][]string{},
	}
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if strings.TrimSpace(line) != "" {
			if err := r.line(line); err != nil {
				return nil, err
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read test output: %w", err)
		}
	}
	r.count()
	return &r.s, nil
}

func (r *reader) line(line string) error {
	var e event
	if err := json.Unmarshal([]byte(line), &e); err != nil {
		// The go command itself speaks plain text.
		_, err := io.WriteString(r.out, line)
		return err
	}
	id := testID{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		r.builds[e.ImportPath] = append(r.builds[e.ImportPath], e.Output)
	case "build-fail":
		return r.printAll(r.builds[e.ImportPath])
	case "output":
		r.output[id] = append(r.output[id], e.Output)
		if r.verbose {
			return r.printAll([]string{e.Output})
		}
	case "pass", "fail", "skip":
		if e.Test == "" {
			return r.endPackage(e)
		}
		return r.endTest(id, e.Action)
	}
	return nil
}

func (r *reader) endTest(id testID, action string) error {
	r.results[id] = action
	output := r.output[id]
	delete(r.output, id)
	switch {
	case action == "skip":
		r.s.SkippedTests = append(r.s.SkippedTests, id.pkg+" "+id.test+reason(output))
	case action == "fail" && !r.verbose:
		return r.printAll(output)
	}
	return nil
}

// reason is the last line that a skipped test printed.
func reason(output []string) string {
	for _, line := range slices.Backward(output) {
		if text := strings.TrimSpace(line); text != "" && !strings.HasPrefix(text, "---") && !strings.HasPrefix(text, "===") {
			return ": " + text
		}
	}
	return ""
}

func (r *reader) endPackage(e event) error {
	tests, failed := 0, false
	for id, action := range r.results {
		if id.pkg == e.Package {
			tests++
			failed = failed || action == "fail"
		}
	}
	if tests == 0 && e.Action != "fail" {
		return nil // no test files
	}
	r.s.Packages++
	if e.Action == "fail" {
		if !failed {
			r.s.Broken = append(r.s.Broken, e.Package)
		}
		if err := r.printRest(e.Package); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(r.out, "%-4s %-75s %7.2fs %4d tests\n", map[string]string{"pass": "ok", "fail": "FAIL", "skip": "skip"}[e.Action], e.Package, e.Elapsed, tests)
	return err
}

// printRest prints what a failed package printed outside of ended tests: a
// panic, a race found at the end, the test that hung.
func (r *reader) printRest(pkg string) error {
	if r.verbose {
		return nil
	}
	for _, id := range slices.SortedFunc(maps.Keys(r.output), func(a, b testID) int { return strings.Compare(a.test, b.test) }) {
		if id.pkg != pkg {
			continue
		}
		if err := r.printAll(r.output[id]); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) printAll(lines []string) error {
	_, err := io.WriteString(r.out, strings.Join(lines, ""))
	return err
}

func (r *reader) count() {
	parents := map[testID]bool{}
	for id := range r.results {
		for name := id.test; ; {
			cut := strings.LastIndexByte(name, '/')
			if cut < 0 {
				break
			}
			name = name[:cut]
			parents[testID{id.pkg, name}] = true
		}
	}
	for id, action := range r.results {
		if parents[id] && (action != "fail" || r.childFailed(id)) {
			continue
		}
		switch action {
		case "pass":
			r.s.Passed++
		case "skip":
			r.s.Skipped++
		case "fail":
			r.s.Failed++
			r.s.FailedTests = append(r.s.FailedTests, id.pkg+" "+id.test)
		}
	}
	slices.Sort(r.s.FailedTests)
	slices.Sort(r.s.SkippedTests)
	slices.Sort(r.s.Broken)
}

// childFailed tells a test that failed by a subtest from one that failed after
// its subtests passed.
func (r *reader) childFailed(parent testID) bool {
	for id, action := range r.results {
		if action == "fail" && id.pkg == parent.pkg && strings.HasPrefix(id.test, parent.test+"/") {
			return true
		}
	}
	return false
}

// Print writes the closing lines.
func (s *Summary) Print(out io.Writer, name string) error {
	var b strings.Builder
	for _, t := range s.SkippedTests {
		fmt.Fprintf(&b, "skipped: %s\n", t)
	}
	for _, t := range s.FailedTests {
		fmt.Fprintf(&b, "failed: %s\n", t)
	}
	for _, p := range s.Broken {
		fmt.Fprintf(&b, "broken: %s (does not build, or ended outside of a test: see above)\n", p)
	}
	if s.Passed == 0 && s.Failed == 0 && len(s.Broken) == 0 {
		b.WriteString("no test ran\n")
	}
	fmt.Fprintf(&b, "test summary: %s: %d packages, %d tests passed, %d failed, %d skipped\n",
		name, s.Packages, s.Passed, s.Failed+len(s.Broken), s.Skipped)
	fmt.Fprintf(&b, "%d passed, %d failed, %d skipped\n", s.Passed, s.Failed+len(s.Broken), s.Skipped)
	_, err := io.WriteString(out, b.String())
	return err
}
