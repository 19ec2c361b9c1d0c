package cluster

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// The images of this package, in every node from the start.
const (
	PauseImage   = "budcluster.test/pause:1"
	HelloImage   = "budcluster.test/hello:1"
	FakeGPUImage = "budcluster.test/fakegpu:1"
	CoreDNSImage = "budcluster.test/coredns:1"
	StandinImage = "budcluster.test/standin:1"
)

// WriteImage packs one static binary as an image and writes it as the archive
// that "ctr images import" and "docker load" read. It runs as nobody unless
// root is set.
func WriteImage(path, reference, binary string, root bool) error {
	tag, err := name.NewTag(reference)
	if err != nil {
		return fmt.Errorf("image name %s: %w", reference, err)
	}
	entrypoint := "/" + tag.RepositoryStr()
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return layerOf(entrypoint, binary) },
		tarball.WithCompressionLevel(gzip.NoCompression)) // it travels no further than this machine
	if err != nil {
		return fmt.Errorf("layer of %s: %w", binary, err)
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return err
	}
	user := "65532:65532"
	if root {
		user = "0:0"
	}
	image, err = mutate.ConfigFile(image, &v1.ConfigFile{
		Architecture: runtime.GOARCH, OS: "linux",
		Config: v1.Config{Entrypoint: []string{entrypoint}, Env: []string{"PATH=/"}, User: user},
		RootFS: v1.RootFS{Type: "layers", DiffIDs: diffIDs(layer)},
	})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := tarball.WriteToFile(path, tag, image); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func diffIDs(layer v1.Layer) []v1.Hash {
	id, err := layer.DiffID()
	if err != nil {
		return nil // a layer that cannot be read fails when it is written
	}
	return []v1.Hash{id}
}

// layerOf is a tar with the binary and an empty /tmp.
func layerOf(entrypoint, binary string) (io.ReadCloser, error) {
	content, err := os.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	var layer bytes.Buffer
	archive := tar.NewWriter(&layer)
	epoch := time.Unix(0, 0).UTC()
	headers := []*tar.Header{
		{Typeflag: tar.TypeDir, Name: "tmp/", Mode: 0o1777, ModTime: epoch},
		{Typeflag: tar.TypeReg, Name: entrypoint[1:], Mode: 0o755, Size: int64(len(content)), ModTime: epoch},
	}
	for _, header := range headers {
		if err := archive.WriteHeader(header); err != nil {
			return nil, err
		}
	}
	if _, err := archive.Write(content); err != nil {
		return nil, err
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	return io.NopCloser(&layer), nil
}

// writeImages makes the archives of the cluster's own images.
func writeImages(dir string, bin Binaries) error {
	images := []struct {
		reference, binary string
		root              bool
	}{
		{PauseImage, "pause", false},
		{HelloImage, "hello", false},
		{FakeGPUImage, "fakegpu", true}, // writes into the kubelet's folder
		{CoreDNSImage, "coredns", true}, // binds port 53
		{StandinImage, "standin", false},
	}
	for _, image := range images {
		if err := WriteImage(filepath.Join(dir, image.binary+".tar"), image.reference, bin.Path(image.binary), image.root); err != nil {
			return err
		}
	}
	return nil
}
