package chart_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/chart"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/page"
)

// memory is a Store of one test.
type memory struct {
	mu     sync.Mutex // guards charts
	charts map[string]chart.Chart
}

func (m *memory) PutChart(_ context.Context, c chart.Chart) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.charts[c.Digest]; ok {
		return false, nil
	}
	if m.charts == nil {
		m.charts = make(map[string]chart.Chart)
	}
	m.charts[c.Digest] = c
	return true, nil
}

func (m *memory) ChartContent(_ context.Context, digest string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c, ok := m.charts[digest]; ok {
		return c.Content, nil
	}
	return nil, chart.ErrNotFound
}

func (m *memory) ChartMeta(_ context.Context, digest string) (chart.Meta, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c, ok := m.charts[digest]; ok {
		return c.Meta, nil
	}
	return chart.Meta{}, chart.ErrNotFound
}

func (m *memory) Charts(context.Context, page.Page) ([]chart.Meta, string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []chart.Meta
	for _, c := range m.charts {
		out = append(out, c.Meta)
	}
	return out, "", nil
}

func setup(t *testing.T, dir string) *chart.Service {
	t.Helper()
	s, err := chart.New(chart.Config{Store: &memory{}, Logger: slog.New(slog.DiscardHandler), Dir: dir})
	require.NoError(t, err)
	return s
}

func pack(t *testing.T, name, version string) []byte {
	t.Helper()
	tgz, _, err := chart.Pack(fstest.MapFS{
		"Chart.yaml":       {Data: fmt.Appendf(nil, "apiVersion: v2\nname: %s\nversion: %s\n", name, version)},
		"templates/a.yaml": {Data: []byte("a: b")},
	})
	require.NoError(t, err)
	return tgz
}

// field is the field that err refuses.
func field(t *testing.T, err error) string {
	t.Helper()
	bad := invalid.Of(err)
	require.Len(t, bad, 1, "%v", err)
	return bad[0].Field
}

func TestPutKeepsOnceAndGivesBack(t *testing.T) {
	t.Parallel()
	s := setup(t, "")
	tgz := pack(t, "app", "1.0.0")
	m, err := s.Put(t.Context(), "me", tgz)
	require.NoError(t, err)
	again, err := s.Put(t.Context(), "me", tgz)
	require.NoError(t, err)
	require.Equal(t, m, again)

	got, err := s.Get(t.Context(), m.Digest)
	require.NoError(t, err)
	require.True(t, bytes.Equal(tgz, got))
	resolved, err := s.Resolve(t.Context(), "me", chart.Source{Digest: m.Digest})
	require.NoError(t, err)
	require.Equal(t, m, resolved)
	list, _, err := s.List(t.Context(), page.Page{})
	require.NoError(t, err)
	require.Equal(t, []chart.Meta{m}, list)

	_, err = s.Put(t.Context(), "me", []byte("no chart"))
	require.Equal(t, "body", field(t, err))
	_, err = s.Get(t.Context(), "sha256:"+strings.Repeat("0", 64))
	require.ErrorIs(t, err, chart.ErrNotFound)
	_, err = s.Get(t.Context(), "../x")
	require.ErrorIs(t, err, chart.ErrNotFound)
}

func TestSourceCheck(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		src   chart.Source
		field string
	}{
		"nothing":              {chart.Source{}, "chart"},
		"two":                  {chart.Source{Path: "a", OCI: "oci://h/b"}, "chart"},
		"repository, no name":  {chart.Source{Repository: "https://h"}, "chart.name"},
		"name alone":           {chart.Source{OCI: "oci://h/b", Name: "b"}, "chart.name"},
		"version of a digest":  {chart.Source{Digest: "sha256:" + strings.Repeat("0", 64), Version: "1"}, "chart.version"},
		"not a digest":         {chart.Source{Digest: "sha256:0"}, "chart.digest"},
		"digest nobody pushed": {chart.Source{Digest: "sha256:" + strings.Repeat("0", 64)}, "chart.digest"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := setup(t, "").Resolve(t.Context(), "me", c.src)
			require.Equal(t, c.field, field(t, err))
		})
	}
}

func TestResolveFromFolder(t *testing.T) {
	t.Parallel()
	outside, dir := t.TempDir(), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(outside, "secret.tgz"), pack(t, "secret", "1.0.0"), 0o600))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "app", "templates"), 0o750))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "app", "Chart.yaml"), []byte("apiVersion: v2\nname: app\nversion: 1.0.0\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "packed.tgz"), pack(t, "packed", "2.0.0"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "large.tgz"), make([]byte, chart.MaxSize+1), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "text.tgz"), []byte("text"), 0o600))
	require.NoError(t, os.Symlink(filepath.Join(outside, "secret.tgz"), filepath.Join(dir, "link.tgz")))
	require.NoError(t, os.Symlink("../"+filepath.Base(outside), filepath.Join(dir, "linkdir")))
	s := setup(t, dir)

	m, err := s.Resolve(t.Context(), "me", chart.Source{Path: "app"})
	require.NoError(t, err)
	require.Equal(t, "app", m.Name)
	m, err = s.Resolve(t.Context(), "me", chart.Source{Path: "packed.tgz"})
	require.NoError(t, err)
	require.Equal(t, "2.0.0", m.Version)

	for _, path := range []string{
		"../" + filepath.Base(outside) + "/secret.tgz", filepath.Join(outside, "secret.tgz"), "link.tgz", "linkdir", "linkdir/secret.tgz",
		"absent", "large.tgz", "text.tgz", "app/templates",
	} {
		_, err := s.Resolve(t.Context(), "me", chart.Source{Path: path})
		require.Equal(t, "chart.path", field(t, err), path)
	}
	_, err = setup(t, "").Resolve(t.Context(), "me", chart.Source{Path: "app"})
	require.ErrorContains(t, err, "has no chartsDir")
}

func TestResolveFromRepository(t *testing.T) {
	t.Parallel()
	files := map[string][]byte{
		"/stable/app-1.0.0.tgz": pack(t, "app", "1.0.0"),
		"/stable/app-1.1.0.tgz": pack(t, "app", "1.1.0"),
		"/other/text.tgz":       []byte("text"),
		"/broken/index.yaml":    []byte("<html>"),
	}
	one, err := chart.Inspect(files["/stable/app-1.0.0.tgz"])
	require.NoError(t, err)
	files["/stable/index.yaml"] = []byte(`
apiVersion: v1
entries:
  app:
  - {version: 1.0.0, digest: ` + strings.TrimPrefix(one.Digest, "sha256:") + `, urls: [app-1.0.0.tgz]}
  - {version: 2.0.0-rc.1, urls: [app-2.0.0-rc.1.tgz]}
  - {version: 1.1.0, urls: [app-1.1.0.tgz]}
  - {version: 0.9.0, digest: ` + strings.Repeat("0f", 32) + `, urls: [app-1.1.0.tgz]}
  - {version: 0.8.0, urls: [/other/text.tgz]}
  - {version: 0.7.0, urls: []}
  - {version: 0.6.0, urls: ["file:///etc/passwd"]}
  - {version: 0.5.0, urls: [gone.tgz]}
`)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, ok := files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(body)
	}))
	t.Cleanup(srv.Close)
	s := setup(t, "")
	resolve := func(version string) (chart.Meta, error) {
		return s.Resolve(t.Context(), "me", chart.Source{Repository: srv.URL + "/stable", Name: "app", Version: version})
	}

	for asked, got := range map[string]string{"": "1.1.0", "1.0.0": "1.0.0", "v1.0.0": "1.0.0"} {
		m, err := resolve(asked)
		require.NoError(t, err)
		require.Equal(t, got, m.Version)
	}
	var up *chart.UpstreamError
	for _, version := range []string{"0.9.0", "0.7.0", "0.6.0", "0.5.0"} {
		_, err = resolve(version)
		require.ErrorAs(t, err, &up, version)
	}
	_, err = resolve("0.8.0")
	require.Equal(t, "chart.repository", field(t, err))
	_, err = resolve("3.0.0")
	require.Equal(t, "chart.version", field(t, err))
	require.ErrorContains(t, err, "2.0.0-rc.1, 1.1.0, 1.0.0, 0.9.0, 0.8.0, …")
	_, err = s.Resolve(t.Context(), "me", chart.Source{Repository: srv.URL + "/stable/index.yaml", Name: "absent"})
	require.Equal(t, "chart.name", field(t, err))
	for _, path := range []string{"/broken", "/absent"} {
		_, err = s.Resolve(t.Context(), "me", chart.Source{Repository: srv.URL + path, Name: "app"})
		require.ErrorAs(t, err, &up, path)
	}
	for _, repo := range []string{"ftp://h/x", "h/x", "https://u:p@h/x", "://"} {
		_, err = s.Resolve(t.Context(), "me", chart.Source{Repository: repo, Name: "app"})
		require.Equal(t, "chart.repository", field(t, err), repo)
		require.NotContains(t, err.Error(), "u:p")
	}
}

// Clouds keep their machines' credentials at a link-local address: an operator
// must not be able to make the hub read them.
func TestResolveReachesNoLinkLocalAddress(t *testing.T) {
	t.Parallel()
	_, err := setup(t, "").Resolve(t.Context(), "me", chart.Source{Repository: "http://169.254.169.254/latest", Name: "app"})
	var up *chart.UpstreamError
	require.ErrorAs(t, err, &up)
	require.ErrorContains(t, err, "link-local")
}

func TestResolveFromOCI(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(srv.Close)
	host := strings.TrimPrefix(srv.URL, "http://")
	push := func(ref string, layer v1.Layer) {
		img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), "application/vnd.cncf.helm.config.v1+json")
		img, err := mutate.AppendLayers(img, layer)
		require.NoError(t, err)
		r, err := name.ParseReference(host + ref)
		require.NoError(t, err)
		require.NoError(t, remote.Write(r, img, remote.WithContext(t.Context())))
	}
	const helmLayer = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
	push("/charts/app:1.0.0", static.NewLayer(pack(t, "app", "1.0.0"), helmLayer))
	push("/charts/app:1.2.0_build.1", static.NewLayer(pack(t, "app", "1.2.0+build.1"), helmLayer))
	push("/charts/app:2.0.0-rc.1", static.NewLayer(pack(t, "app", "2.0.0-rc.1"), helmLayer))
	push("/charts/image:1.0.0", static.NewLayer([]byte("x"), types.DockerLayer))
	push("/charts/text:1.0.0", static.NewLayer([]byte("x"), helmLayer))
	s := setup(t, "")

	for _, c := range []struct{ oci, version, got string }{
		{"oci://" + host + "/charts/app", "1.0.0", "1.0.0"},
		{"oci://" + host + "/charts/app:1.0.0", "", "1.0.0"},
		{"oci://" + host + "/charts/app", "1.2.0+build.1", "1.2.0+build.1"},
		{"oci://" + host + "/charts/app", "", "1.2.0+build.1"},
		{host + "/charts/app", "2.0.0-rc.1", "2.0.0-rc.1"},
	} {
		m, err := s.Resolve(t.Context(), "me", chart.Source{OCI: c.oci, Version: c.version})
		require.NoError(t, err, "%+v", c)
		require.Equal(t, c.got, m.Version)
	}
	for _, c := range []struct{ oci, version, field string }{
		{"oci://" + host + "/charts/app:1.0.0", "1.0.0", "chart.version"},
		{"oci://" + host + "/charts/app", "a b", "chart.version"},
		{"oci://" + host + "/charts/app", "9.9.9", "chart.oci"},
		{"oci://" + host + "/charts/image", "1.0.0", "chart.oci"},
		{"oci://" + host + "/charts/text", "1.0.0", "chart.oci"},
		{"https://" + host + "/charts/app", "1.0.0", "chart.oci"},
		{"oci://app", "1.0.0", "chart.oci"},
		{"oci://u:p@" + host + "/charts/app", "1.0.0", "chart.oci"},
		{"oci://", "1.0.0", "chart.oci"},
	} {
		_, err := s.Resolve(t.Context(), "me", chart.Source{OCI: c.oci, Version: c.version})
		require.Equal(t, c.field, field(t, err), "%+v", c)
	}
	srv.Close()
	_, err := s.Resolve(t.Context(), "me", chart.Source{OCI: "oci://" + host + "/charts/app", Version: "1.0.0"})
	var up *chart.UpstreamError
	require.ErrorAs(t, err, &up)
}
