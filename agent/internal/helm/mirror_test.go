package helm_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/internal/helm"
)

func TestMirrorImage(t *testing.T) {
	t.Parallel()
	m, err := helm.NewMirrors(map[string]string{
		"registry.k8s.io":          "registry.site",
		"registry.k8s.io/nfd/*":    "registry.site/special/*",
		"docker.io":                "registry.site/docker",
		"docker.io/library":        "registry.site/official",
		"index.docker.io/bitnami":  "registry.site/bitnami",
		"registry.internal:5000/a": "mirror:5000/a",
	})
	require.NoError(t, err)
	cases := map[string]string{
		"registry.k8s.io/pause:3.9":                "registry.site/pause:3.9",
		"registry.k8s.io/nfd/worker:v1":            "registry.site/special/worker:v1",   // longest prefix
		"registry.k8s.io/nfdx/worker:v1":           "registry.site/nfdx/worker:v1",      // whole path elements only
		"registry.k8s.io.evil/pause":               "registry.k8s.io.evil/pause",        // another host
		"nginx":                                    "registry.site/official/nginx",      // official image
		"nginx:1.25":                               "registry.site/official/nginx:1.25", //
		"docker.io/nginx":                          "registry.site/official/nginx",      //
		"index.docker.io/library/nginx@sha256:abc": "registry.site/official/nginx@sha256:abc",
		"grafana/grafana:10@sha256:abc":            "registry.site/docker/grafana/grafana:10@sha256:abc",
		"bitnami/redis":                            "registry.site/bitnami/redis",
		"registry.internal:5000/a/b:v1":            "mirror:5000/a/b:v1",
		"registry.internal:5000/other:v1":          "registry.internal:5000/other:v1",
		"quay.io/x/y":                              "quay.io/x/y",
		"localhost/x":                              "localhost/x",
		"":                                         "",
	}
	for in, want := range cases {
		require.Equal(t, want, m.Image(in), in)
	}
}

func TestMirrorsNeedBothSides(t *testing.T) {
	t.Parallel()
	_, err := helm.NewMirrors(map[string]string{"registry.k8s.io": " "})
	require.ErrorContains(t, err, "registry.k8s.io")
	_, err = helm.NewMirrors(map[string]string{"bitnami": "registry.site"})
	require.ErrorContains(t, err, "docker.io/bitnami")
}

// TestMirrorManifests covers pod templates in any object, hooks' kinds too,
// and leaves documents without images exactly as they are.
func TestMirrorManifests(t *testing.T) {
	t.Parallel()
	m, err := helm.NewMirrors(map[string]string{"docker.io": "site"})
	require.NoError(t, err)
	in := `---
# Source: a comment that stays
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
data: {image: nginx, big: "12345678901234567890"}
---
apiVersion: example.com/v1
kind: Engine
metadata: {name: e}
spec:
  replicas: 9007199254740993
  image: nginx
  worker:
    podSpec:
      initContainers: [{name: i, image: busybox}]
      containers: [{name: c, image: "nginx:1"}, {name: none}]
      volumes: [{name: v, image: {reference: "models/llama:1"}}]
`
	out, err := m.Run(bytes.NewBufferString(in))
	require.NoError(t, err)
	text := out.String()
	require.Contains(t, text, "# Source: a comment that stays")
	require.Contains(t, text, "data: {image: nginx")
	require.Contains(t, text, "image: site/library/busybox")
	require.Contains(t, text, "image: site/library/nginx:1")
	require.Contains(t, text, "reference: site/models/llama:1")
	require.Contains(t, text, "replicas: 9007199254740993")
	require.Contains(t, text, "  image: nginx\n", "only containers are rewritten")
	again, err := m.Run(bytes.NewBufferString(text))
	require.NoError(t, err)
	require.Contains(t, again.String(), "image: site/library/busybox")
}

func FuzzMirrorImage(f *testing.F) {
	for _, s := range []string{"nginx", "a/b:c@sha256:d", "h:5000/x", "@", ":", "/", "docker.io"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, ref string) {
		m, err := helm.NewMirrors(map[string]string{"docker.io": "site"})
		require.NoError(t, err)
		_ = m.Image(ref)
		none, err := helm.NewMirrors(nil)
		require.NoError(t, err)
		require.Equal(t, ref, none.Image(ref))
	})
}
