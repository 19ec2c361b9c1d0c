package release_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/release"
	"github.com/budecosystem/budcluster/hub/internal/store/storetest"
	"github.com/budecosystem/budcluster/internal/testutil"
)

func good() release.Spec {
	return release.Spec{Chart: release.Chart{Digest: storetest.Digest(), Name: "nginx", Version: "1.0.0"}}.WithDefaults()
}

func output() release.Output {
	return release.Output{Name: "ip", APIVersion: "v1", Kind: "Service", Object: "web", JSONPath: "{.spec.clusterIP}"}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	cases := []struct {
		change func(*release.Spec)
		fields []string // what is refused, in order
	}{
		{func(*release.Spec) {}, nil},
		{func(s *release.Spec) { s.Values = json.RawMessage(`{"a": [1, "x", null, true, {"b": 1e300}]}`) }, nil},
		{func(s *release.Spec) { s.Values = json.RawMessage(`null`) }, nil},
		{func(s *release.Spec) { s.Values = json.RawMessage(`{"nul": "\u0000"}`) }, nil},
		{func(s *release.Spec) { s.Values = json.RawMessage(`[1]`) }, []string{"values"}},
		{func(s *release.Spec) { s.Values = json.RawMessage(`"text"`) }, []string{"values"}},
		{func(s *release.Spec) { s.Values = json.RawMessage(`12`) }, []string{"values"}},
		{func(s *release.Spec) { s.Values = json.RawMessage(`true`) }, []string{"values"}},
		{func(s *release.Spec) { s.Values = json.RawMessage(`{"a": 1`) }, []string{"values"}},
		{func(s *release.Spec) { s.Values = json.RawMessage(`{"a": 1} {}`) }, []string{"values"}},
		{func(s *release.Spec) { s.Values = json.RawMessage("{\"a\": \"\xff\"}") }, []string{"values"}},
		{func(s *release.Spec) { s.Values = json.RawMessage(`{"a": {"b": [0, 1e999]}}`) }, []string{"values"}},
		{func(s *release.Spec) {
			s.Values = json.RawMessage(strings.Repeat(`{"a":`, 70) + "1" + strings.Repeat("}", 70))
		}, []string{"values"}},
		{func(s *release.Spec) { s.SecretValues = json.RawMessage(`["hunter2"]`) }, []string{"secretValues"}},
		{func(s *release.Spec) { s.SecretValues = json.RawMessage(`{"password": hunter2}`) }, []string{"secretValues"}},
		{func(s *release.Spec) {
			s.Values = json.RawMessage(`{"a": "` + strings.Repeat("x", release.MaxValues) + `"}`)
		}, []string{"values"}},
		{func(s *release.Spec) {
			s.Values = json.RawMessage(`{"a": "` + strings.Repeat("x", release.MaxValues/2) + `"}`)
			s.SecretValues = s.Values
		}, []string{"values"}},
		{func(s *release.Spec) { s.Chart = release.Chart{Digest: "sha256:short"} }, []string{"chart.digest", "chart.name", "chart.version"}},
		{func(s *release.Spec) { s.Timeout = time.Second }, []string{"timeout"}},
		{func(s *release.Spec) { s.Timeout = 25 * time.Hour }, []string{"timeout"}},
		{func(s *release.Spec) { s.MaxAttempts = -1 }, []string{"maxAttempts"}},
		{func(s *release.Spec) { s.MaxAttempts = 101 }, []string{"maxAttempts"}},
		{func(s *release.Spec) { s.Remediation, s.Drift, s.Adoption = "pray", "hope", "steal" }, []string{"remediation", "drift", "adoption"}},
		{func(s *release.Spec) { s.Outputs = []release.Output{output()} }, nil},
		{func(s *release.Spec) { s.Outputs = []release.Output{output(), output()} }, []string{"outputs[1].name"}},
		{func(s *release.Spec) { s.Outputs = []release.Output{{}} }, []string{
			"outputs[0].name", "outputs[0].apiVersion", "outputs[0].kind", "outputs[0].object", "outputs[0].jsonPath",
		}},
		{func(s *release.Spec) {
			o := output()
			o.Kind = "secret"
			s.Outputs = []release.Output{o}
		}, []string{"outputs[0].kind"}},
		{func(s *release.Spec) { s.Outputs = make([]release.Output, 33) }, []string{"outputs"}},
	}
	var seen strings.Builder
	for i, c := range cases {
		spec := good()
		c.change(&spec)
		err := spec.Validate()
		var fields []string
		for _, one := range invalid.Of(err) {
			fields = append(fields, one.Field)
		}
		require.Equal(t, c.fields, fields, "case %d: %v", i, err)
		if err != nil {
			require.NotContains(t, err.Error(), "hunter2", "a secret is never quoted")
			fmt.Fprintln(&seen, err)
		}
	}
	testutil.Golden(t, "validate", []byte(seen.String()))
}

func TestErrorsThatUsersSee(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var seen strings.Builder
	try := func(change func(*release.Request)) {
		req := b.request(`{}`)
		change(&req)
		_, _, err := b.Apply(t.Context(), "tester", b.clusterID, req)
		require.Error(t, err)
		fmt.Fprintln(&seen, err)
	}
	for _, name := range []string{"", "Web", "-web", strings.Repeat("a", 54)} {
		try(func(r *release.Request) { r.Name, r.Namespace = name, name })
	}
	try(func(r *release.Request) { r.Spec.Chart.Digest = storetest.Digest() })
	try(func(r *release.Request) { r.Spec.Chart.Version = "9.9.9" })
	b.apply(t, b.request(`{}`))
	try(func(r *release.Request) { r.Namespace = "other" })
	zero, nine := int64(0), int64(9)
	try(func(r *release.Request) { r.IfGeneration = &zero })
	try(func(r *release.Request) { r.IfGeneration = &nine })
	try(func(r *release.Request) { r.Name, r.IfGeneration = "new", &nine })
	_, err := b.Delete(t.Context(), "tester", b.clusterID, "web", false)
	require.NoError(t, err)
	try(func(r *release.Request) { r.Namespace = "other" })
	_, err = b.Get(t.Context(), b.clusterID, "nothing")
	fmt.Fprintln(&seen, err)
	_, err = b.Delete(t.Context(), "tester", b.clusterID, "nothing", false)
	fmt.Fprintln(&seen, err)
	testutil.Golden(t, "errors", testutil.Normalise([]byte(seen.String())))
}

// The two halves may each be small enough, and be too large together only once
// the kept secret values are counted.
func TestKeptSecretValuesCount(t *testing.T) {
	t.Parallel()
	b := setup(t)
	half := json.RawMessage(`{"a":"` + strings.Repeat("x", release.MaxValues*2/3) + `"}`)
	req := b.request(`{}`)
	req.Spec.SecretValues = half
	b.apply(t, req)
	req = b.request(string(half))
	_, _, err := b.Apply(t.Context(), "tester", b.clusterID, req)
	require.Equal(t, "values", invalid.Of(err)[0].Field)
}

func FuzzValues(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":1}`, `[`, `null`, `{"a":{"b":[1,2,{"c":null}]}}`, `{"a":1e400}`, `{"a":"\u0000"}`, "\xff", `{"a":1}{}`, `{"b":1,"a":2,"a":3}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, values []byte) {
		spec := good()
		spec.Values = values
		err := spec.Validate()
		if err != nil {
			require.NotEmpty(t, invalid.Of(err))
			return
		}
		once, err := release.Canonical(values)
		require.NoError(t, err)
		require.True(t, json.Valid(once))
		twice, err := release.Canonical(once)
		require.NoError(t, err)
		require.Equal(t, string(once), string(twice), "one form")
		require.Equal(t, byte('{'), once[0])
		var a, b map[string]any
		if len(bytes.TrimSpace(values)) > 0 {
			require.NoError(t, json.Unmarshal(values, &a))
		}
		require.NoError(t, json.Unmarshal(once, &b))
		if len(a) > 0 {
			require.Equal(t, a, b, "the same meaning")
		}
	})
}

// However a digest's inputs are split, two different wishes never share one.
func FuzzDigest(f *testing.F) {
	f.Add("web", "shop", `{"a":1}`, `{"b":2}`, "web", "shop", `{"a":1}`, `{"b":2}`)
	f.Add("web", "shop", `{"a":1}`, ``, "web", "shop", `{ "a" : 1 }`, `{}`)
	f.Add("a", "b", `{}`, `{}`, "ab", "", `{}`, ``)
	f.Fuzz(func(t *testing.T, name1, ns1, v1, s1, name2, ns2, v2, s2 string) {
		d1, k1, ok1 := release.DigestOf(name1, ns1, []byte(v1), []byte(s1))
		d2, k2, ok2 := release.DigestOf(name2, ns2, []byte(v2), []byte(s2))
		if !ok1 || !ok2 {
			return
		}
		require.Regexp(t, `^sha256:[0-9a-f]{64}$`, d1)
		require.Equal(t, k1 == k2, d1 == d2)
	})
}
