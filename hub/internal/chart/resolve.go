package chart

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/internal/chartfile"
)

// Source says where a chart is: exactly one of Digest, Path, Repository (with
// Name and perhaps Version) or OCI (perhaps with Version).
type Source struct {
	Digest     string
	Path       string
	Repository string
	Name       string
	OCI        string
	Version    string
}

// Check refuses a source that names nothing, or two things. Fields are named
// below "chart".
func (s Source) Check() error {
	var kinds []string
	for _, k := range []struct{ name, value string }{
		{"digest", s.Digest}, {"path", s.Path}, {"repository", s.Repository}, {"oci", s.OCI},
	} {
		if k.value != "" {
			kinds = append(kinds, k.name)
		}
	}
	switch {
	case len(kinds) == 0:
		return invalid.New("chart", "it says nothing; give one of digest, path, repository (with name) or oci")
	case len(kinds) > 1:
		return invalid.New("chart", "it holds both %s; keep the one that is meant", strings.Join(kinds, " and "))
	case s.Repository != "" && s.Name == "":
		return invalid.New("chart.name", "it is missing; give the chart's name in repository %q", invalid.ClipURL(s.Repository))
	case s.Repository == "" && s.Name != "":
		return invalid.New("chart.name", "%q goes only with repository; leave it out", invalid.Clip(s.Name))
	case s.Version != "" && (s.Digest != "" || s.Path != ""):
		return invalid.New("chart.version", "%q goes only with repository or oci; leave it out", invalid.Clip(s.Version))
	case s.Digest != "" && !chartfile.IsDigest(s.Digest):
		return invalid.New("chart.digest", "%q is not a digest; give sha256: and 64 hex digits, as chart list shows it", invalid.Clip(s.Digest))
	}
	return nil
}

// Resolve finds a chart and keeps it, so that from now on its digest is
// enough.
func (s *Service) Resolve(ctx context.Context, actor string, src Source) (Meta, error) {
	if err := src.Check(); err != nil {
		return Meta{}, err
	}
	if src.Digest != "" {
		m, err := s.Meta(ctx, src.Digest)
		if errors.Is(err, ErrNotFound) {
			return Meta{}, invalid.New("chart.digest", "%s is not held by the hub; push the chart first", src.Digest)
		}
		return m, err
	}
	field, fetch := "chart.path", s.fromFolder
	switch {
	case src.Repository != "":
		field, fetch = "chart.repository", s.fromRepository
	case src.OCI != "":
		field, fetch = "chart.oci", s.fromOCI
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.timeout, fmt.Errorf("no chart within %s", s.timeout))
	defer cancel()
	tgz, err := fetch(ctx, src)
	if err != nil {
		return Meta{}, err
	}
	m, err := Inspect(tgz)
	if err != nil {
		return Meta{}, invalid.New(field, "%v", err)
	}
	return s.keep(ctx, actor, m, tgz)
}

// fromFolder reads a chart below the hub's own folder of charts. os.Root keeps
// links and ".." inside.
func (s *Service) fromFolder(_ context.Context, src Source) ([]byte, error) {
	const field = "chart.path"
	if s.dir == "" {
		return nil, invalid.New(field, "%q cannot be looked up: the hub has no chartsDir; push the chart instead", invalid.Clip(src.Path))
	}
	if !filepath.IsLocal(src.Path) {
		return nil, invalid.New(field, "%q points out of the hub's chartsDir; give a path below it, such as app or app-1.0.0.tgz", invalid.Clip(src.Path))
	}
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return nil, fmt.Errorf("open chartsDir: %w", err)
	}
	defer func() { _ = root.Close() }()
	info, err := root.Stat(src.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, invalid.New(field, "%q is not in the hub's chartsDir; put the chart there, or push it", invalid.Clip(src.Path))
	case err != nil:
		return nil, invalid.New(field, "%q cannot be read in the hub's chartsDir; give a chart's folder or .tgz that lies below it", invalid.Clip(src.Path))
	case info.IsDir():
		return packRoot(root, src.Path)
	}
	f, err := root.Open(src.Path)
	if err != nil {
		return nil, invalid.New(field, "%q cannot be read in the hub's chartsDir; check its permissions", invalid.Clip(src.Path))
	}
	defer func() { _ = f.Close() }()
	tgz, err := readBounded(f)
	if err != nil {
		return nil, invalid.New(field, "%q: %v", invalid.Clip(src.Path), err)
	}
	return tgz, nil
}

func packRoot(root *os.Root, path string) ([]byte, error) {
	sub, err := root.OpenRoot(path)
	if err != nil {
		return nil, invalid.New("chart.path", "%q cannot be read in the hub's chartsDir; check its permissions", invalid.Clip(path))
	}
	defer func() { _ = sub.Close() }()
	tgz, _, err := Pack(sub.FS())
	if err != nil {
		return nil, invalid.New("chart.path", "%q: %v", invalid.Clip(path), err)
	}
	return tgz, nil
}

// readBounded reads a packed chart of at most MaxSize.
func readBounded(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read chart: %w", err)
	}
	if len(b) > MaxSize {
		return nil, fmt.Errorf("it is larger than %d bytes, the most that a packed chart may weigh", MaxSize)
	}
	return b, nil
}
