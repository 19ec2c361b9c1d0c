package accel_test

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/budecosystem/budcluster/agent/internal/accel"
	"github.com/budecosystem/budcluster/internal/testutil"
)

// TestAdvisoriesOfVersions: what is told of versions that are in the field.
func TestAdvisoriesOfVersions(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	for _, c := range []struct{ driver, toolkit string }{
		{"", ""},
		{"580.178.04", "1.19.1"},     // all is fixed
		{"620.10", "1.20.0-rc.1"},    // newer than all
		{"580.178.03", "1.19.0"},     // just before
		{"535.309.01", "1.17.8-1"},   // the last of its branch, which the newest bulletin does not name
		{"550.54.15", "v1.16.1"},     // an old branch
		{"470.256.02", "1.17.0-rc1"}, // one that no bulletin here names
		{"575.51.02", "1.17.0"},
		{"590.44.01", ""},
	} {
		found, problems := accel.Advisories(c.driver, c.toolkit)
		require.Empty(t, problems)
		fmt.Fprintf(&out, "driver %s, toolkit %s\n", c.driver, c.toolkit)
		for _, a := range found {
			sure := "confirmed"
			if !a.Confirmed {
				sure = "may be"
			}
			fmt.Fprintf(&out, "  %-8s %s %s < %s, %s, %s\n", a.Severity, a.Component, a.Version, a.Fixed, sure, a.ID)
		}
	}
	testutil.Golden(t, "advisories", []byte(out.String()))
}

func TestAdvisoriesOfNonsense(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"unknown", "580", "1.2.3.4.5", "-1.2", "580.x", "580.99999999999999999999", ".", "v", "1..2", " 1.2", strings.Repeat("1.", 500)} {
		found, problems := accel.Advisories(text, "")
		require.Empty(t, found, text)
		require.Len(t, problems, 1, text)
		require.Contains(t, problems[0], "driver cannot be read, so whether it is vulnerable is unknown")
		_, problems = accel.Advisories(text, text)
		require.Len(t, problems, 2, text)
	}
}

// TestAdvisoriesFitTheSchema also holds what a schema cannot say: the order, and
// that a source is the bulletin's own.
func TestAdvisoriesFitTheSchema(t *testing.T) {
	t.Parallel()
	schema, err := jsonschema.NewCompiler().Compile("advisories.schema.json")
	require.NoError(t, err)
	validate := func(text []byte) error {
		raw, err := yaml.YAMLToJSONStrict(text)
		require.NoError(t, err)
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
		require.NoError(t, err)
		return schema.Validate(value)
	}
	text, err := os.ReadFile("advisories.yaml")
	require.NoError(t, err)
	require.NoError(t, validate(text))

	var file struct {
		Advisories []struct{ ID, Published, Source string }
	}
	require.NoError(t, yaml.Unmarshal(text, &file))
	last, ids := "", map[string]bool{}
	for _, a := range file.Advisories {
		require.LessOrEqual(t, last, a.Published, "%s is not in order", a.ID)
		require.False(t, ids[a.ID], "%s is there twice", a.ID)
		require.True(t, strings.HasSuffix(a.Source, "/"+a.ID+"/"+a.ID+".md"), a.Source)
		last, ids[a.ID] = a.Published, true
	}

	entry := func(component, updates string) string {
		return "advisories:\n- {id: '5555', component: " + component + ", published: '2025-01-01', summary: A sentence that says what can happen., " +
			"source: https://github.com/NVIDIA/product-security/blob/main/2025/5555/5555.md, updates: [" + updates + "]}"
	}
	good := "{branch: 535, fixed: '535.1', severity: high, cves: [CVE-2025-1234]}"
	require.NoError(t, validate([]byte(entry("driver", good))))
	for name, bad := range map[string]string{
		"a toolkit's branch":  entry("toolkit", good),
		"a driver's lack":     entry("driver", "{fixed: '535.1', severity: high, cves: [CVE-2025-1234]}"),
		"an unknown key":      entry("driver", strings.Replace(good, "cves", "cve", 1)),
		"a number as version": entry("driver", strings.Replace(good, "'535.1'", "535.1", 1)),
		"an unknown severity": entry("driver", strings.Replace(good, "high", "bad", 1)),
		"no CVE":              entry("driver", strings.Replace(good, "CVE-2025-1234", "", 1)),
		"no update":           entry("driver", ""),
		"another component":   entry("firmware", good),
	} {
		require.Error(t, validate([]byte(bad)), name)
	}
}

// FuzzAdvisories: no version makes a panic, none is both judged and unreadable,
// and no bulletin is told twice.
func FuzzAdvisories(f *testing.F) {
	for _, seed := range []string{"580.95.05", "v1.17.8", "1.17.0~rc.1-1", "", "470.256.02", "9.9.9.9"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		found, problems := accel.Advisories(text, "")
		require.LessOrEqual(t, len(problems), 1)
		if len(problems) == 1 {
			require.Empty(t, found)
			return
		}
		for i, a := range found {
			require.Equal(t, text, a.Version)
			require.NotEmpty(t, a.Fixed)
			require.False(t, slices.ContainsFunc(found[:i], func(b accel.Advisory) bool { return a.ID == b.ID }))
		}
	})
}
