package report_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/deploy/bench/report"
)

const output = `goos: linux
pkg: example.test/tunnel
cpu: some
BenchmarkEcho/direct-2         	   10000	     40000 ns/op	     512 B/op	       8 allocs/op
BenchmarkEcho/tunnel-2         	   10000	     60000 ns/op	    1024 B/op	       8 allocs/op
PASS
ok  	example.test/tunnel	2.1s
pkg: example.test/release
BenchmarkDecide100-2           	   20000	     50000 ns/op
BenchmarkUnary-2        	      20	    159207 ns/op	        62.00 direct-p50-µs	         1.124 ratio	        69.00 tunnel-p50-µs	        88.00 tunnel-p99-µs	   20182 B/op
BenchmarkOther/direct          	   20000	     1 ns/op
PASS
`

func TestPrintComparesWithTheBaselineOfTheSameRun(t *testing.T) {
	t.Parallel()
	results, err := report.Parse(strings.NewReader(output))
	require.NoError(t, err)
	require.Len(t, results, 5)

	var out strings.Builder
	require.NoError(t, report.Print(&out, results, []report.Promise{{Benchmark: "Decide100", Unit: "ns/op", Limit: 1e6, Text: "deciding is quick"}}))
	require.Equal(t, `
BENCHMARK    BASELINE          MEASURED          RATIO
Echo/tunnel  40.0 µs/op        60.0 µs/op        × 1.50
Echo/tunnel  512 B/op          1024 B/op         × 2.00
Echo/tunnel  8 allocs/op       8 allocs/op       × 1.00
Unary        62 direct-p50-µs  69 tunnel-p50-µs  × 1.12

PROMISE            LIMIT       MEASURED
deciding is quick  1.00 ms/op  50.0 µs/op  kept
`, out.String())
}

func TestPromises(t *testing.T) {
	t.Parallel()
	promise := report.Promise{Benchmark: "A", Unit: "ns/op", Limit: 10, Text: "a is quick"}
	for name, c := range map[string]struct {
		results []report.Result
		shows   string
		err     string
	}{
		"kept":         {[]report.Result{{Name: "A", N: 9, Values: map[string]float64{"ns/op": 10}}}, "kept", ""},
		"kept in sub":  {[]report.Result{{Name: "A/x", N: 9, Values: map[string]float64{"ns/op": 1}}}, "kept", ""},
		"broken":       {[]report.Result{{Name: "A", N: 9, Values: map[string]float64{"ns/op": 11}}}, "BROKEN", "promise broken: a is quick, measured 11.0 ns/op"},
		"one run":      {[]report.Result{{Name: "A", N: 1, Values: map[string]float64{"ns/op": 11}}}, "says nothing", ""},
		"another name": {[]report.Result{{Name: "AB", N: 9, Values: map[string]float64{"ns/op": 1}}}, "not measured", "promise not measured"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			err := report.Print(&out, c.results, []report.Promise{promise})
			require.Contains(t, out.String(), c.shows)
			if c.err == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.err)
		})
	}
}

func TestParseSeesFailures(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"--- FAIL: BenchmarkX\n", "FAIL	example.test/x	0.1s\n"} {
		_, err := report.Parse(strings.NewReader(text))
		require.ErrorIs(t, err, report.ErrFailed)
	}
}

func TestPackagesFindsBenchmarksOfThisModule(t *testing.T) {
	t.Parallel()
	bench := &fstest.MapFile{Data: []byte("package x\n\nfunc BenchmarkX(b *testing.B) {}\n")}
	plain := &fstest.MapFile{Data: []byte("package x\n\nfunc TestX(t *testing.T) {}\n")}
	found, err := report.Packages(fstest.MapFS{
		"go.mod": {}, "b/x_test.go": bench, "a/deep/x_test.go": bench, "c/x_test.go": plain,
		"e2e/go.mod": {}, "e2e/x_test.go": bench, ".cache/x_test.go": bench, "a/testdata/x_test.go": bench,
	})
	require.NoError(t, err)
	require.Equal(t, []string{"./a/deep", "./b"}, found)
}

func FuzzParse(f *testing.F) {
	f.Add(output)
	f.Add("BenchmarkX-2 1 NaN ns/op\npkg: \n--- \nBenchmark 1 2 3 4")
	f.Fuzz(func(t *testing.T, text string) {
		results, err := report.Parse(strings.NewReader(text))
		if err == nil {
			_ = report.Print(&strings.Builder{}, results, nil)
		}
	})
}
