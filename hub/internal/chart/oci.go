package chart

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/budecosystem/budcluster/hub/internal/invalid"
)

// contentLayer is the media type of the layer that Helm puts a chart's .tgz in.
const contentLayer types.MediaType = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"

func (s *Service) fromOCI(ctx context.Context, src Source) ([]byte, error) {
	opts := []remote.Option{remote.WithContext(ctx), remote.WithTransport(s.transport), remote.WithUserAgent("budcluster-hub")}
	ref, err := s.reference(src, opts)
	if err != nil {
		return nil, err
	}
	img, err := remote.Image(ref, opts...)
	if err != nil {
		return nil, ociError(ctx, ref, err)
	}
	layers, err := img.Layers()
	if err != nil {
		return nil, ociError(ctx, ref, err)
	}
	for _, l := range layers {
		if mt, err := l.MediaType(); err == nil && mt == contentLayer {
			return readLayer(ctx, ref, l)
		}
	}
	return nil, invalid.New("chart.oci", "%q is in the registry and holds no Helm chart; name one that helm push put there", ref.String())
}

// reference makes of oci and version what the registry understands: Helm
// writes the + of a version as _ in a tag.
func (s *Service) reference(src Source, opts []remote.Option) (name.Reference, error) {
	const field = "chart.oci"
	plain := strings.TrimPrefix(src.OCI, "oci://")
	if plain == src.OCI && strings.Contains(src.OCI, "://") || strings.Contains(plain, "@") && !strings.Contains(plain, "@sha256:") {
		return nil, invalid.New(field, "%q is not the address of a chart; give it as oci://host/path/name", invalid.ClipURL(src.OCI))
	}
	ref, err := name.ParseReference(plain, name.WithDefaultTag(""), name.WithDefaultRegistry(""))
	if err != nil || ref.Context().RegistryStr() == "" {
		return nil, invalid.New(field, "%q is not the address of a chart; give it as oci://host/path/name", invalid.ClipURL(src.OCI))
	}
	named := ref.Identifier() != ""
	switch {
	case named && src.Version != "":
		return nil, invalid.New("chart.version", "%q is given beside a tag or digest in oci %q; keep one of the two", invalid.Clip(src.Version), invalid.ClipURL(src.OCI))
	case named:
		return ref, nil
	case src.Version != "":
		tag := strings.ReplaceAll(src.Version, "+", "_")
		t, err := name.NewTag(ref.Context().Name()+":"+tag, name.StrictValidation)
		if err != nil {
			return nil, invalid.New("chart.version", "%q cannot be a tag of a registry; correct it", invalid.Clip(src.Version))
		}
		return t, nil
	default:
		return newestTag(ref.Context(), opts)
	}
}

func newestTag(repo name.Repository, opts []remote.Option) (name.Reference, error) {
	tags, err := remote.List(repo, opts...)
	if err != nil {
		return nil, &UpstreamError{Where: repo.Name(), Err: ociCause(err)}
	}
	versions := make([]string, len(tags))
	for i, t := range tags {
		versions[i] = strings.ReplaceAll(t, "_", "+")
	}
	i := choose(versions, "")
	if i < 0 {
		return nil, noVersion(repo.Name(), "", versions)
	}
	return repo.Tag(tags[i]), nil
}

// readLayer reads the chart; the library compares the digest while it does.
func readLayer(ctx context.Context, ref name.Reference, l v1.Layer) ([]byte, error) {
	if size, err := l.Size(); err != nil || size > MaxSize {
		return nil, invalid.New("chart.oci", "%q holds a chart of %d bytes; the most is %d", ref.String(), size, MaxSize)
	}
	r, err := l.Compressed()
	if err != nil {
		return nil, ociError(ctx, ref, err)
	}
	defer func() { _ = r.Close() }()
	tgz, err := readBounded(r)
	if err != nil {
		return nil, ociError(ctx, ref, err)
	}
	return tgz, nil
}

// ociError tells what the user can correct from what the registry did.
func ociError(ctx context.Context, ref name.Reference, err error) error {
	var te *transport.Error
	if errors.As(err, &te) && te.StatusCode == http.StatusNotFound {
		return invalid.New("chart.oci", "%q is not in the registry; correct the path or version", ref.String())
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return &UpstreamError{Where: ref.Context().Name(), Err: ociCause(err)}
}

// ociCause shortens the library's errors, which repeat the registry's page.
func ociCause(err error) error {
	var te *transport.Error
	if !errors.As(err, &te) {
		return err
	}
	switch te.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return errors.New("it asks for a login, which the hub does not have; fetch the chart yourself and push it")
	default:
		return fmt.Errorf("it answered %d %s", te.StatusCode, http.StatusText(te.StatusCode))
	}
}
