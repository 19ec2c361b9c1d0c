package helm_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/internal/helm"
)

// TestSentence shows what people see instead of what Helm says.
func TestSentence(t *testing.T) {
	t.Parallel()
	cases := map[string]string{
		"execution error at (web/templates/x.yaml:3:4): the word is missing":                                                                                                                             "web/templates/x.yaml:3: the word is missing",
		`template: web/templates/d.yaml:10:20: executing "web/templates/d.yaml" at <.Values.a.b>: nil pointer evaluating interface {}.b`:                                                                 "web/templates/d.yaml:10: <.Values.a.b>: nil pointer evaluating interface {}.b",
		`template: web/templates/d.yaml:1:3: executing "web/templates/d.yaml" at <include "x" .>: error calling include: template: web/templates/_h.tpl:4:9: executing "x" at <.Values.a.b>: wrong type`: "web/templates/_h.tpl:4: <.Values.a.b>: wrong type",
		"values don't meet the specifications of the schema(s) in the following chart(s):\nweb:\n- at '/word': got string, want integer\n":                                                               "values do not fit the chart's schema: web: at /word: got string, want integer",
		"1 error occurred:\n\t* services \"x\" is forbidden: no\n\n":                                                                                                                                     `services "x" is forbidden: no`,
		`failed to create resource: admission webhook "w" denied the request: no`:                                                                                                                        `admission webhook "w" denied the request: no`,
		`unable to build kubernetes objects from release manifest: error validating "": error validating data: unknown field "spec.x"`:                                                                   `unknown field "spec.x"`,
		`failed pre-install: job slow-hook: not done after 20s`:                                                                                                                                          "pre-install hook: job slow-hook: not done after 20s",
		`pre-upgrade hooks failed: job x: failed`:                                                                                                                                                        "pre-upgrade hook: job x: failed",
	}
	for in, want := range cases {
		require.Equal(t, want, helm.Sentence(errors.New(in)))
	}
	require.Empty(t, helm.Sentence(nil))
}

func FuzzSentence(f *testing.F) {
	f.Add("1 error occurred:\n\t* x")
	f.Fuzz(func(t *testing.T, in string) {
		out := helm.Sentence(errors.New(in))
		require.NotContains(t, out, "\n")
		require.LessOrEqual(t, len([]rune(out)), 600)
	})
}
