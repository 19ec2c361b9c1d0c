// Package docs_test keeps the documents true where a test can: commands that
// they name exist, settings that they show are accepted, nothing is missing in
// an index.
package docs_test

import (
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub"
	"github.com/budecosystem/budcluster/internal/config"
)

// documents are the pages that a newcomer types commands from.
var documents = []string{"README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "docs/operations.md", ".env.sample"}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../" + name)
	require.NoError(t, err)
	return string(text)
}

func TestMakeTargetsInDocumentsExist(t *testing.T) {
	t.Parallel()
	targets := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^([a-z][a-z0-9-]*):`).FindAllStringSubmatch(read(t, "Makefile"), -1) {
		targets[m[1]] = true
	}
	require.Contains(t, targets, "test")
	for _, name := range documents {
		for _, m := range regexp.MustCompile("(?m)(?:`|^ *|^\\$ )make ([a-z][a-z0-9-]*)").FindAllStringSubmatch(read(t, name), -1) {
			require.True(t, targets[m[1]], "%s names `make %s`, which the Makefile does not have", name, m[1])
		}
	}
}

// TestEveryTargetHasAHelpLine keeps `make help` complete; helpers of other
// targets are marked by having no help line and a name that says so.
func TestEveryTargetHasAHelpLine(t *testing.T) {
	t.Parallel()
	for line := range strings.SplitSeq(read(t, "Makefile"), "\n") {
		target := regexp.MustCompile(`^([a-z][a-z0-9-]*):`).FindStringSubmatch(line)
		if target == nil || strings.HasPrefix(target[1], "setup-") || strings.HasPrefix(target[1], "check-") {
			continue
		}
		require.Contains(t, line, "## ", "target %s has no help line", target[1])
	}
}

func TestLinksInDocumentsLeadSomewhere(t *testing.T) {
	t.Parallel()
	for _, name := range documents {
		for _, m := range regexp.MustCompile(`\]\(([^)#]+)(#[^)]*)?\)`).FindAllStringSubmatch(read(t, name), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			_, err := os.Stat(path.Join("..", path.Dir(name), m[1]))
			require.NoError(t, err, "%s links to %s", name, m[1])
		}
	}
}

// TestEnvSampleIsAccepted gives every variable of the sample to the hub,
// switched on or not.
func TestEnvSampleIsAccepted(t *testing.T) {
	t.Parallel()
	var env []string
	for _, m := range regexp.MustCompile(`(?m)^#?(BUDCLUSTER_[A-Z_]+=.*)$`).FindAllStringSubmatch(read(t, ".env.sample"), -1) {
		env = append(env, m[1])
	}
	require.NotEmpty(t, env)
	cfg := hub.Defaults()
	require.NoError(t, config.Load(&cfg, config.Source{Env: env, EnvPrefix: hub.EnvPrefix}))
	require.True(t, cfg.Dev)
}

func TestEveryDecisionIsInTheIndex(t *testing.T) {
	t.Parallel()
	records, err := fs.Glob(os.DirFS("adr"), "[0-9]*.md")
	require.NoError(t, err)
	require.NotEmpty(t, records)
	index := read(t, "docs/adr/README.md")
	for _, name := range records {
		require.Contains(t, index, "("+name+")")
		text := read(t, "docs/adr/"+name)
		require.Regexp(t, `^# `+strings.TrimLeft(name[:4], "0")+`\. `, text, name)
		for _, heading := range []string{"Status: ", "## Context", "## Decision", "## Refused", "## Consequences"} {
			require.Contains(t, text, heading, name)
		}
	}
}

// TestInvariantsNameTheirTests looks up every test that ARCHITECTURE.md names.
func TestInvariantsNameTheirTests(t *testing.T) {
	t.Parallel()
	var missing []string
	sources := testSources(t)
	for _, m := range regexp.MustCompile("`((?:Test|Fuzz)[A-Za-z0-9]+)`").FindAllStringSubmatch(read(t, "ARCHITECTURE.md"), -1) {
		if !strings.Contains(sources, "func "+m[1]+"(") {
			missing = append(missing, m[1])
		}
	}
	slices.Sort(missing)
	require.Empty(t, missing, "ARCHITECTURE.md names tests that do not exist")
}

func testSources(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	root := os.DirFS("..")
	require.NoError(t, fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case strings.HasSuffix(name, "_test.go"):
			text, err := fs.ReadFile(root, name)
			all.Write(text)
			return err
		}
		return nil
	}))
	return all.String()
}
