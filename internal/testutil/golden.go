// Package testutil compares what programs print with files that were reviewed.
package testutil

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite golden files with what the tests got") //nolint:gochecknoglobals // a test flag

// Golden compares got with testdata/<name>.golden in the package under test.
// With -update it writes the file instead.
func Golden(t testing.TB, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", filepath.FromSlash(strings.TrimSuffix(name, ".golden"))+".golden")
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, got, 0o644))
		return
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "no golden file; run the test with -update and review it")
	require.Equal(t, string(want), string(got), "differs from %s; if that is right, run the test with -update", path)
}

// Updating reports whether golden files are being rewritten, for tests that
// keep a file in a form of their own.
func Updating() bool { return *update }

// NormaliseUUIDs replaces UUIDs with <uuid>.
func NormaliseUUIDs(text []byte) []byte {
	return regexp.MustCompile(`[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}`).
		ReplaceAll(text, []byte("<uuid>"))
}

// NormaliseTimes replaces RFC 3339 times with <time>.
func NormaliseTimes(text []byte) []byte {
	return regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`).ReplaceAll(text, []byte("<time>"))
}

// NormaliseDigests replaces sha256 digests with <digest>.
func NormaliseDigests(text []byte) []byte {
	return regexp.MustCompile(`sha256:[0-9a-f]{64}`).ReplaceAll(text, []byte("<digest>"))
}

// NormaliseTokens replaces join tokens and API keys with <token>.
func NormaliseTokens(text []byte) []byte {
	return regexp.MustCompile(`\b(bud1\.[\w.-]+|budk_\w+)`).ReplaceAll(text, []byte("<token>"))
}

// Normalise applies every replacement above.
func Normalise(text []byte) []byte {
	return NormaliseTokens(NormaliseDigests(NormaliseTimes(NormaliseUUIDs(text))))
}
