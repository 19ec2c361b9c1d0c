package summary_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/tools/testsummary/summary"
)

// lines builds the stream of a run; each entry is "action package test output".
func lines(events ...[4]string) string {
	var b strings.Builder
	for _, e := range events {
		b.WriteString(`{"Action":"` + e[0] + `","Package":"` + e[1] + `","Test":"` + e[2] + `","Output":"` + e[3] + `"}` + "\n")
	}
	return b.String()
}

func TestRead(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in    string
		want  summary.Summary
		ok    bool
		shows string // must appear in the output
		hides string // must not
	}{
		"passes are counted as leaves": {
			in: lines([4]string{"output", "p", "TestA", "noise\\n"}, [4]string{"pass", "p", "TestA/one"}, [4]string{"pass", "p", "TestA/two"},
				[4]string{"pass", "p", "TestA"}, [4]string{"pass", "p", "TestB"}, [4]string{"pass", "p", ""}),
			want: summary.Summary{Packages: 1, Passed: 3}, ok: true, shows: "ok   p", hides: "noise",
		},
		"a failure shows its output and counts once": {
			in: lines([4]string{"output", "p", "TestA/one", "boom\\n"}, [4]string{"fail", "p", "TestA/one"}, [4]string{"pass", "p", "TestA/two"},
				[4]string{"fail", "p", "TestA"}, [4]string{"fail", "p", ""}),
			want:  summary.Summary{Packages: 1, Passed: 1, Failed: 1, FailedTests: []string{"p TestA/one"}},
			shows: "boom",
		},
		"a parent that fails by itself is counted": {
			in:   lines([4]string{"pass", "p", "TestA/one"}, [4]string{"fail", "p", "TestA"}, [4]string{"fail", "p", ""}),
			want: summary.Summary{Packages: 1, Passed: 1, Failed: 1, FailedTests: []string{"p TestA"}},
		},
		"a skip keeps its reason": {
			in: lines([4]string{"output", "p", "TestA", "    a_test.go:1: needs root\\n"}, [4]string{"output", "p", "TestA", "--- SKIP: TestA\\n"},
				[4]string{"skip", "p", "TestA"}, [4]string{"pass", "p", "TestB"}, [4]string{"pass", "p", ""}),
			want: summary.Summary{Packages: 1, Passed: 1, Skipped: 1, SkippedTests: []string{"p TestA: a_test.go:1: needs root"}}, ok: true,
		},
		"a package that does not build is broken": {
			in:    `{"Action":"build-output","ImportPath":"p","Output":"x.go:1: syntax\n"}` + "\n" + `{"Action":"build-fail","ImportPath":"p"}` + "\n" + lines([4]string{"fail", "p", ""}),
			want:  summary.Summary{Packages: 1, Broken: []string{"p"}},
			shows: "x.go:1: syntax",
		},
		"a panic outside of a test is shown": {
			in:    lines([4]string{"output", "p", "", "panic: late\\n"}, [4]string{"pass", "p", "TestA"}, [4]string{"fail", "p", ""}),
			want:  summary.Summary{Packages: 1, Passed: 1, Broken: []string{"p"}},
			shows: "panic: late",
		},
		"a test that never ended is shown": {
			in:    lines([4]string{"output", "p", "TestHang", "waiting\\n"}, [4]string{"pass", "p", "TestA"}, [4]string{"fail", "p", ""}),
			want:  summary.Summary{Packages: 1, Passed: 1, Broken: []string{"p"}},
			shows: "waiting",
		},
		"nothing ran": {in: lines([4]string{"skip", "p", ""})},
		"plain text passes through": {
			in: "go: downloading x\n" + lines([4]string{"pass", "p", "TestA"}, [4]string{"pass", "p", ""}), want: summary.Summary{Packages: 1, Passed: 1}, ok: true, shows: "go: downloading x",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			s, err := summary.Read(strings.NewReader(c.in), &out, false)
			require.NoError(t, err)
			require.Equal(t, c.want, *s)
			require.Equal(t, c.ok, s.OK())
			require.Contains(t, out.String(), c.shows)
			if c.hides != "" {
				require.NotContains(t, out.String(), c.hides)
			}
		})
	}
}

func TestPrintEndsWithTheCounts(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	s := summary.Summary{Packages: 2, Passed: 5, Failed: 1, Skipped: 1, Broken: []string{"q"}, FailedTests: []string{"p TestA"}, SkippedTests: []string{"p TestB: no GPU"}}
	require.NoError(t, s.Print(&out, "unit"))
	require.Equal(t, `skipped: p TestB: no GPU
failed: p TestA
broken: q (does not build, or ended outside of a test: see above)
test summary: unit: 2 packages, 5 tests passed, 2 failed, 1 skipped
5 passed, 2 failed, 1 skipped
`, out.String())
}
