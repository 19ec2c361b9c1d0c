// Package pack makes a container image out of static binaries.
//
// The image has a layer for its files and one for each binary, all written here
// byte for byte, so that the same input gives the same digest:
//
//	layer 1  /etc/passwd /etc/group /etc/ssl/certs/ca-certificates.crt /tmp, the state folder
//	layer 2  /usr/local/bin/<further binary>, for each
//	layer 3  /usr/local/bin/<binary>
//
// The first seldom changes, so a new version costs a cluster one layer. A
// binary that is in two images is the same layer in both: a registry keeps it
// once. There is no shell and no package manager in an image; the user is 65532,
// and any other user works as well (OpenShift chooses its own).
package pack

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// userID is the user that the images run as: "nonroot", as in distroless.
const userID = 65532

// Spec says what goes into an image.
type Spec struct {
	Reference    string // full name with tag
	Title        string
	Description  string
	Version      string
	Revision     string // commit; empty if unknown
	Architecture string // amd64, arm64
	Created      time.Time
	Binary       string   // path of the static binary that the image runs
	Further      []string // paths of static binaries that it calls, or that are called by hand
	Arguments    []string // default arguments
	Environment  []string
	StateDir     string // folder that the user may write to; empty for none
	Certificates []byte // PEM bundle; empty for none

	BinaryLimit int64 // largest binary in bytes; 0: no limit
	ImageLimit  int64 // largest compressed image in bytes; 0: no limit
}

// Size is what an image weighs.
type Size struct {
	Binary int64 // bytes on disk of the binary that it runs
	Image  int64 // bytes of all compressed layers and of the configuration
}

// Image builds the image and checks it against the limits.
func Image(spec Spec) (v1.Image, Size, error) {
	base, err := layer(spec.Created, baseFiles(spec))
	if err != nil {
		return nil, Size{}, fmt.Errorf("base layer: %w", err)
	}
	layers := []mutate.Addendum{spec.addendum("base", base)}
	var size int64 // of the last, which is the image's own
	for _, path := range append(slices.Clone(spec.Further), spec.Binary) {
		var program v1.Layer
		if program, size, err = programLayer(path, spec.Created); err != nil {
			return nil, Size{}, err
		}
		layers = append(layers, spec.addendum(filepath.Base(path), program))
	}
	image, err := assemble(spec, layers)
	if err != nil {
		return nil, Size{}, err
	}
	all, err := measure(image, size)
	if err != nil {
		return nil, Size{}, err
	}
	return image, all, checkLimits(spec, all)
}

// programLayer holds one static binary and nothing else, so that it does not
// depend on the image that it is for.
func programLayer(path string, created time.Time) (v1.Layer, int64, error) {
	binary, err := os.ReadFile(path)
	if err != nil {
		return nil, 0, fmt.Errorf("read binary: %w", err)
	}
	if err := checkStatic(binary); err != nil {
		return nil, 0, fmt.Errorf("%s: %w", path, err)
	}
	program, err := layer(created, []file{
		{name: "usr/", mode: 0o755, dir: true},
		{name: "usr/local/", mode: 0o755, dir: true},
		{name: "usr/local/bin/", mode: 0o755, dir: true},
		{name: "usr/local/bin/" + filepath.Base(path), mode: 0o755, data: binary},
	})
	if err != nil {
		return nil, 0, fmt.Errorf("program layer: %w", err)
	}
	return program, int64(len(binary)), nil
}

func (s Spec) addendum(what string, l v1.Layer) mutate.Addendum {
	return mutate.Addendum{Layer: l, History: v1.History{Created: v1.Time{Time: s.Created}, CreatedBy: "budcluster images: " + what}}
}

func assemble(spec Spec, layers []mutate.Addendum) (v1.Image, error) {
	image := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	image = mutate.ConfigMediaType(image, types.OCIConfigJSON)
	image, err := mutate.Append(image, layers...)
	if err != nil {
		return nil, fmt.Errorf("append layers: %w", err)
	}
	configFile, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	configFile = configFile.DeepCopy()
	configFile.OS, configFile.Architecture = "linux", spec.Architecture
	configFile.Created = v1.Time{Time: spec.Created}
	configFile.Config = v1.Config{
		User:       fmt.Sprintf("%d:%d", userID, userID),
		Entrypoint: []string{"/usr/local/bin/" + filepath.Base(spec.Binary)},
		Cmd:        spec.Arguments,
		Env:        append([]string{"PATH=/usr/local/bin", "HOME=/tmp"}, spec.Environment...),
		WorkingDir: "/",
		Labels:     spec.labels(),
	}
	if spec.StateDir != "" {
		configFile.Config.Volumes = map[string]struct{}{spec.StateDir: {}}
	}
	image, err = mutate.ConfigFile(image, configFile)
	if err != nil {
		return nil, fmt.Errorf("set configuration: %w", err)
	}
	return image, nil
}

func (s Spec) labels() map[string]string {
	labels := map[string]string{
		"org.opencontainers.image.title":       s.Title,
		"org.opencontainers.image.description": s.Description,
		"org.opencontainers.image.version":     s.Version,
		"org.opencontainers.image.created":     s.Created.Format(time.RFC3339),
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.vendor":      "Bud Ecosystem",
		"org.opencontainers.image.source":      "https://github.com/budecosystem/budcluster",
		"org.opencontainers.image.url":         "https://github.com/budecosystem/budcluster",
	}
	if s.Revision != "" {
		labels["org.opencontainers.image.revision"] = s.Revision
	}
	return labels
}

func baseFiles(spec Spec) []file {
	files := []file{
		{name: "etc/", mode: 0o755, dir: true},
		{name: "etc/passwd", mode: 0o644, data: fmt.Appendf(nil, "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:%d:%d:nonroot:/tmp:/sbin/nologin\n", userID, userID)},
		{name: "etc/group", mode: 0o644, data: fmt.Appendf(nil, "root:x:0:\nnonroot:x:%d:\n", userID)},
		{name: "etc/nsswitch.conf", mode: 0o644, data: []byte("hosts: files dns\n")},
		{name: "tmp/", mode: 0o1777, dir: true},
	}
	if len(spec.Certificates) > 0 {
		files = append(files,
			file{name: "etc/ssl/", mode: 0o755, dir: true},
			file{name: "etc/ssl/certs/", mode: 0o755, dir: true},
			file{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, data: spec.Certificates},
		)
	}
	if spec.StateDir != "" {
		// Group 0 may write, so that OpenShift's random user (always in group 0) can.
		files = append(files, parents(spec.StateDir)...)
		files = append(files, file{name: spec.StateDir[1:] + "/", mode: 0o770, dir: true, user: userID})
	}
	return files
}

func parents(dir string) []file {
	var files []file
	for parent := path.Dir(dir); parent != "/"; parent = path.Dir(parent) {
		files = append([]file{{name: parent[1:] + "/", mode: 0o755, dir: true}}, files...)
	}
	return files
}

type file struct {
	name string
	mode int64
	dir  bool
	user int
	data []byte
}

func layer(created time.Time, files []file) (v1.Layer, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		header := &tar.Header{
			Name: f.name, Mode: f.mode, Uid: f.user, Size: int64(len(f.data)),
			Typeflag: tar.TypeReg, ModTime: created, Format: tar.FormatPAX,
		}
		if f.dir {
			header.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("write header of %s: %w", f.name, err)
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, fmt.Errorf("write %s: %w", f.name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("close layer: %w", err)
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil }
	return tarball.LayerFromOpener(open,
		tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.BestCompression))
}

// checkStatic refuses a binary that asks for a dynamic linker: there is none
// in the image, and the kernel's answer to that is a bare "no such file".
func checkStatic(binary []byte) error {
	f, err := elf.NewFile(bytes.NewReader(binary))
	if err != nil {
		return fmt.Errorf("not a Linux binary: %w", err)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return errors.New("dynamically linked; build with CGO_ENABLED=0")
		}
	}
	return nil
}

func measure(image v1.Image, binary int64) (Size, error) {
	manifest, err := image.Manifest()
	if err != nil {
		return Size{}, fmt.Errorf("read manifest: %w", err)
	}
	size := Size{Binary: binary, Image: manifest.Config.Size}
	for _, l := range manifest.Layers {
		size.Image += l.Size
	}
	return size, nil
}

// LimitError says that an image or a binary has outgrown its promise.
type LimitError struct {
	What        string // "binary" or "compressed image"
	Size, Limit int64
}

// Error implements error.
func (e *LimitError) Error() string {
	return fmt.Sprintf("%s is %.1f MB, over the limit of %.0f MB; see what grew with `go version -m` and `go tool nm -size`",
		e.What, float64(e.Size)/1e6, float64(e.Limit)/1e6)
}

func checkLimits(spec Spec, size Size) error {
	if spec.BinaryLimit > 0 && size.Binary > spec.BinaryLimit {
		return &LimitError{What: "binary", Size: size.Binary, Limit: spec.BinaryLimit}
	}
	if spec.ImageLimit > 0 && size.Image > spec.ImageLimit {
		return &LimitError{What: "compressed image", Size: size.Image, Limit: spec.ImageLimit}
	}
	return nil
}

// WriteArchive writes the image as a docker-archive.
func WriteArchive(file, reference string, image v1.Image) error {
	tag, err := name.NewTag(reference)
	if err != nil {
		return fmt.Errorf("parse image name: %w", err)
	}
	if err := tarball.WriteToFile(file, tag, image); err != nil {
		return fmt.Errorf("write docker archive: %w", err)
	}
	return nil
}

// Append puts the image into an OCI layout, findable by its name.
func Append(to layout.Path, spec Spec, image v1.Image) error {
	err := to.AppendImage(image,
		layout.WithAnnotations(map[string]string{
			"org.opencontainers.image.ref.name": spec.Reference,
			"io.containerd.image.name":          spec.Reference,
		}),
		layout.WithPlatform(v1.Platform{OS: "linux", Architecture: spec.Architecture}))
	if err != nil {
		return fmt.Errorf("append to OCI layout: %w", err)
	}
	return nil
}
