// Package report turns `go test -bench` output into ratios to a baseline and
// checks the product's promises.
package report

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Result is one line of a benchmark.
type Result struct {
	Package string
	Name    string // without "Benchmark" and without the number of CPUs
	N       int
	Values  map[string]float64 // by unit: ns/op, B/op, …
}

// Promise is a figure that the product stands for.
type Promise struct {
	Benchmark string // the name, or its beginning up to a slash
	Unit      string
	Limit     float64
	Text      string
}

// Promises lists the figures that hold on any machine this runs on.
func Promises() []Promise {
	return []Promise{
		{Benchmark: "Decide100", Unit: "ns/op", Limit: 1e6, Text: "deciding on 100 releases takes at most 1 ms"},
		{Benchmark: "OneActivity/one", Unit: "ns/op", Limit: 1e9 / 120, Text: "one hub runs at least 120 workflows of one activity in a second"},
		{Benchmark: "OneActivity/three", Unit: "ns/op", Limit: 1e9 / 120, Text: "three hubs on one database do, too"},
		{Benchmark: "Register/hundred", Unit: "p95-ms", Limit: 200, Text: "100 clusters register at once, and 95 of 100 steps take at most 200 ms beside the cluster"},
		{Benchmark: "Register/hundred", Unit: "hub-MiB", Limit: 300, Text: "the hub that does so never has more than 300 MiB"},
		{Benchmark: "Scrape", Unit: "ratio", Limit: 1.0 / 20, Text: "a scrape of 8 GPUs takes a twentieth of the time that text/template takes"},
		{Benchmark: "HAMiMetrics", Unit: "ratio", Limit: 0.5, Text: "HAMi's metrics of 160 GPUs are read and merged in half the time that expfmt takes"},
		{Benchmark: "HAMiMetrics", Unit: "allocs-ratio", Limit: 0.1, Text: "and with a tenth of its allocations"},
	}
}

// ErrFailed says that a benchmark failed.
var ErrFailed = errors.New("a benchmark failed; see FAIL above")

// Parse reads the output of `go test -bench`, of any number of packages.
func Parse(in io.Reader) ([]Result, error) {
	var results []Result
	var pkg string
	failed := false
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) == 2 && fields[0] == "pkg:":
			pkg = fields[1]
		case len(fields) > 0 && (fields[0] == "FAIL" || strings.HasPrefix(strings.TrimSpace(lines.Text()), "--- FAIL:")):
			failed = true
		case len(fields) >= 4 && strings.HasPrefix(fields[0], "Benchmark"):
			if r, ok := parseLine(pkg, fields); ok {
				results = append(results, r)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read benchmarks: %w", err)
	}
	if failed {
		return nil, ErrFailed
	}
	return results, nil
}

func parseLine(pkg string, fields []string) (Result, bool) {
	n, err := strconv.Atoi(fields[1])
	if err != nil {
		return Result{}, false
	}
	name := strings.TrimPrefix(fields[0], "Benchmark")
	if at := strings.LastIndexByte(name, '-'); at > 0 {
		if _, err := strconv.Atoi(name[at+1:]); err == nil {
			name = name[:at]
		}
	}
	r := Result{Package: pkg, Name: name, N: n, Values: map[string]float64{}}
	for i := 2; i+1 < len(fields); i += 2 {
		value, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return Result{}, false
		}
		r.Values[fields[i+1]] = value
	}
	return r, true
}

// Print writes the two tables. A broken promise is an error, unless the
// benchmark ran only once: then the time is mostly that of cold caches.
func Print(out io.Writer, results []Result, promises []Promise) error {
	var text bytes.Buffer
	w := tabwriter.NewWriter(&text, 0, 4, 2, ' ', 0)
	printRatios(w, results)
	var broken []error
	if len(promises) > 0 {
		fmt.Fprint(w, "\nPROMISE\tLIMIT\tMEASURED\n")
	}
	for _, p := range promises {
		verdict, err := p.judge(results)
		broken = append(broken, err)
		fmt.Fprintf(w, "%s\t%s\t%s\n", p.Text, format(p.Limit, p.Unit), verdict)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("lay out report: %w", err)
	}
	if _, err := out.Write(text.Bytes()); err != nil {
		return fmt.Errorf("print report: %w", err)
	}
	return errors.Join(broken...)
}

func printRatios(w *tabwriter.Writer, results []Result) {
	fmt.Fprint(w, "\nBENCHMARK\tBASELINE\tMEASURED\tRATIO\n")
	for _, r := range results {
		printOwnRatio(w, r)
		baseline, ok := baselineOf(r, results)
		if !ok {
			continue
		}
		for _, unit := range units(r) {
			if base := baseline.Values[unit]; base != 0 {
				fmt.Fprintf(w, "%s\t%s\t%s\t× %.2f\n", r.Name, format(base, unit), format(r.Values[unit], unit), r.Values[unit]/base)
			}
		}
	}
}

// printOwnRatio is for a benchmark that measures both by turns, and reports
// "ratio" beside what it compared: direct-p50-µs and tunnel-p50-µs.
func printOwnRatio(w *tabwriter.Writer, r Result) {
	ratio, ok := r.Values["ratio"]
	if !ok {
		return
	}
	for unit, base := range r.Values {
		own, measure, ok := strings.Cut(unit, "-")
		if !ok || !isBaseline(own) {
			continue
		}
		for _, other := range units(r) {
			if name, same, ok := strings.Cut(other, "-"); ok && same == measure && name != own {
				fmt.Fprintf(w, "%s\t%s\t%s\t× %.2f\n", r.Name, format(base, unit), format(r.Values[other], other), ratio)
			}
		}
	}
}

// baselineOf returns the sibling that r is compared with.
func baselineOf(r Result, results []Result) (Result, bool) {
	parent, own := path.Split(r.Name)
	if isBaseline(own) || parent == "" {
		return Result{}, false
	}
	for _, b := range results {
		dir, name := path.Split(b.Name)
		if b.Package == r.Package && dir == parent && isBaseline(name) {
			return b, true
		}
	}
	return Result{}, false
}

func isBaseline(name string) bool { return name == "direct" || name == "baseline" || name == "tls" }

// units lists what was measured, the time first: it is what people look for.
func units(r Result) []string {
	const time = "ns/op"
	all := slices.Sorted(maps.Keys(r.Values))
	if at := slices.Index(all, time); at > 0 {
		all = slices.Insert(slices.Delete(all, at, at+1), 0, time)
	}
	return all
}

func (p Promise) judge(results []Result) (string, error) {
	for _, r := range results {
		if r.Name != p.Benchmark && !strings.HasPrefix(r.Name, p.Benchmark+"/") {
			continue
		}
		value, ok := r.Values[p.Unit]
		switch {
		case !ok:
			continue
		case value <= p.Limit:
			return format(value, p.Unit) + "  kept", nil
		case r.N == 1:
			return format(value, p.Unit) + "  (one cold run; says nothing)", nil
		default:
			return format(value, p.Unit) + "  BROKEN", fmt.Errorf("promise broken: %s, measured %s", p.Text, format(value, p.Unit))
		}
	}
	return "not measured", fmt.Errorf("promise not measured: no benchmark %s reported %s", p.Benchmark, p.Unit)
}

func format(value float64, unit string) string {
	if unit != "ns/op" {
		return strconv.FormatFloat(value, 'f', -1, 64) + " " + unit
	}
	switch {
	case value >= 1e9:
		return fmt.Sprintf("%.2f s/op", value/1e9)
	case value >= 1e6:
		return fmt.Sprintf("%.2f ms/op", value/1e6)
	case value >= 1e3:
		return fmt.Sprintf("%.1f µs/op", value/1e3)
	default:
		return fmt.Sprintf("%.1f ns/op", value)
	}
}

// Packages returns the folders below root whose tests have benchmarks, as
// patterns for the go command. Folders with a go.mod of their own are another
// module and left out.
func Packages(root fs.FS) ([]string, error) {
	found := map[string]bool{}
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || hasModule(root, name)) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, "_test.go") {
			return nil
		}
		source, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		if bytes.Contains(source, []byte("\nfunc Benchmark")) {
			found["./"+path.Dir(name)] = true
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for benchmarks: %w", err)
	}
	return slices.Sorted(maps.Keys(found)), nil
}

func hasModule(root fs.FS, dir string) bool {
	_, err := fs.Stat(root, path.Join(dir, "go.mod"))
	return err == nil
}
