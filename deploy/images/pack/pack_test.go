package pack_test

import (
	"archive/tar"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/deploy/images/pack"
)

const reference = "registry.example/budcluster-agent:1.2.3"

// elfHeader is the smallest thing that reads as a static Linux binary: a 64-bit
// ELF header without program headers.
func elfHeader() []byte {
	h := make([]byte, 64)
	copy(h, "\x7fELF\x02\x01\x01")
	h[16], h[18], h[20] = 2, 62, 1 // executable, x86-64, version 1
	h[52], h[54], h[58] = 64, 56, 64
	return h
}

func spec(t *testing.T) pack.Spec {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "budcluster-agent")
	require.NoError(t, os.WriteFile(binary, elfHeader(), 0o755))
	return pack.Spec{
		Reference: reference, Title: "agent", Description: "an agent", Version: "1.2.3", Revision: "abc",
		Architecture: "arm64", Created: time.Unix(1_700_000_000, 0).UTC(), Binary: binary,
		Arguments: []string{"run"}, StateDir: "/var/lib/budcluster", Certificates: []byte("PEM"),
	}
}

func digest(t *testing.T, image v1.Image) string {
	t.Helper()
	d, err := image.Digest()
	require.NoError(t, err)
	return d.String()
}

func TestImageHoldsTheBinaryAndRunsAsNobodySpecial(t *testing.T) {
	t.Parallel()
	image, size, err := pack.Image(spec(t))
	require.NoError(t, err)
	require.EqualValues(t, 64, size.Binary)
	require.Positive(t, size.Image)

	config, err := image.ConfigFile()
	require.NoError(t, err)
	require.Equal(t, "65532:65532", config.Config.User)
	require.Equal(t, []string{"/usr/local/bin/budcluster-agent"}, config.Config.Entrypoint)
	require.Equal(t, "arm64", config.Architecture)
	require.Equal(t, "1.2.3", config.Config.Labels["org.opencontainers.image.version"])
	require.Equal(t, "abc", config.Config.Labels["org.opencontainers.image.revision"])

	files := list(t, image)
	require.Equal(t, int64(0o755), files["usr/local/bin/budcluster-agent"].Mode)
	require.Equal(t, int64(0o1777), files["tmp/"].Mode)
	require.Equal(t, 65532, files["var/lib/budcluster/"].Uid)
	for _, want := range []string{"etc/passwd", "etc/group", "etc/ssl/certs/ca-certificates.crt", "var/", "var/lib/"} {
		require.Contains(t, files, want)
	}
}

func list(t *testing.T, image v1.Image) map[string]*tar.Header {
	t.Helper()
	layers, err := image.Layers()
	require.NoError(t, err)
	files := map[string]*tar.Header{}
	for _, l := range layers {
		r, err := l.Uncompressed()
		require.NoError(t, err)
		tr := tar.NewReader(r)
		for {
			h, err := tr.Next()
			if err == io.EOF {
				break
			}
			require.NoError(t, err)
			files[h.Name] = h
		}
		require.NoError(t, r.Close())
	}
	return files
}

// TestFurtherBinaryIsTheSameLayer: the agent in the hub's image costs a
// registry, and a node that has the agent's image, nothing.
func TestFurtherBinaryIsTheSameLayer(t *testing.T) {
	t.Parallel()
	agent := spec(t)
	alone, _, err := pack.Image(agent)
	require.NoError(t, err)
	hub := agent
	hub.Binary = filepath.Join(t.TempDir(), "budcluster-hub")
	require.NoError(t, os.WriteFile(hub.Binary, append(elfHeader(), 0), 0o755))
	hub.Further = []string{agent.Binary}
	hub.Created = agent.Created
	both, size, err := pack.Image(hub)
	require.NoError(t, err)
	require.EqualValues(t, 65, size.Binary, "of the binary that it runs")

	files := list(t, both)
	require.Equal(t, int64(0o755), files["usr/local/bin/budcluster-agent"].Mode)
	require.Equal(t, int64(0o755), files["usr/local/bin/budcluster-hub"].Mode)
	config, err := both.ConfigFile()
	require.NoError(t, err)
	require.Equal(t, []string{"/usr/local/bin/budcluster-hub"}, config.Config.Entrypoint)
	require.Equal(t, layerDigests(t, alone)[1], layerDigests(t, both)[1])
	require.Len(t, layerDigests(t, both), 3)

	hub.Further = []string{hub.Binary + "-missing"}
	_, _, err = pack.Image(hub)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func layerDigests(t *testing.T, image v1.Image) []string {
	t.Helper()
	layers, err := image.Layers()
	require.NoError(t, err)
	var all []string
	for _, l := range layers {
		d, err := l.Digest()
		require.NoError(t, err)
		all = append(all, d.String())
	}
	return all
}

func TestSameInputSameDigest(t *testing.T) {
	t.Parallel()
	first, _, err := pack.Image(spec(t))
	require.NoError(t, err)
	second, _, err := pack.Image(spec(t))
	require.NoError(t, err)
	require.Equal(t, digest(t, first), digest(t, second))

	later := spec(t)
	later.Created = later.Created.Add(time.Second)
	third, _, err := pack.Image(later)
	require.NoError(t, err)
	require.NotEqual(t, digest(t, first), digest(t, third))
}

func TestImageIsReadBackFromBothForms(t *testing.T) {
	t.Parallel()
	s := spec(t)
	image, _, err := pack.Image(s)
	require.NoError(t, err)

	archive := filepath.Join(t.TempDir(), "image.tar")
	require.NoError(t, pack.WriteArchive(archive, reference, image))
	loaded, err := tarball.ImageFromPath(archive, nil)
	require.NoError(t, err)
	require.NoError(t, validate.Image(loaded))

	dir := t.TempDir()
	oci, err := layout.Write(dir, empty.Index)
	require.NoError(t, err)
	require.NoError(t, pack.Append(oci, s, image))
	index, err := oci.ImageIndex()
	require.NoError(t, err)
	manifest, err := index.IndexManifest()
	require.NoError(t, err)
	require.Len(t, manifest.Manifests, 1)
	require.Equal(t, digest(t, image), manifest.Manifests[0].Digest.String())
	require.Equal(t, reference, manifest.Manifests[0].Annotations["org.opencontainers.image.ref.name"])
}

func TestImageRefusesWhatWouldNotRun(t *testing.T) {
	t.Parallel()
	script := spec(t)
	require.NoError(t, os.WriteFile(script.Binary, []byte("#!/bin/sh\n"), 0o755))
	_, _, err := pack.Image(script)
	require.ErrorContains(t, err, "not a Linux binary")

	missing := spec(t)
	missing.Binary += "-missing"
	_, _, err = pack.Image(missing)
	require.ErrorIs(t, err, os.ErrNotExist)

	dynamic := spec(t)
	header := append(elfHeader(), make([]byte, 56)...)
	header[32], header[56], header[64] = 64, 1, 3 // one program header right behind: PT_INTERP
	require.NoError(t, os.WriteFile(dynamic.Binary, header, 0o755))
	_, _, err = pack.Image(dynamic)
	require.ErrorContains(t, err, "CGO_ENABLED=0")
}

func TestImageOverItsLimitIsAnError(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(*pack.Spec){
		"binary":           func(s *pack.Spec) { s.BinaryLimit = 63 },
		"compressed image": func(s *pack.Spec) { s.ImageLimit = 100 },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := spec(t)
			change(&s)
			_, _, err := pack.Image(s)
			var limit *pack.LimitError
			require.ErrorAs(t, err, &limit)
			require.Equal(t, what, limit.What)
		})
	}
}
