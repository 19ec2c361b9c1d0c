package chart

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"sigs.k8s.io/yaml"

	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/internal/chartfile"
)

// maxIndex bounds a repository's index.yaml; the largest public ones have some
// twenty megabytes.
const maxIndex = 64 << 20

// index is the part of a Helm repository's index.yaml that matters here.
type index struct {
	Entries map[string][]indexEntry `json:"entries"`
}

type indexEntry struct {
	Version string   `json:"version"`
	Digest  string   `json:"digest"`
	URLs    []string `json:"urls"`
}

func (s *Service) fromRepository(ctx context.Context, src Source) ([]byte, error) {
	base, err := parseRepository(src.Repository)
	if err != nil {
		return nil, err
	}
	entry, err := s.lookUp(ctx, base, src)
	if err != nil {
		return nil, err
	}
	if len(entry.URLs) == 0 {
		return nil, &UpstreamError{Where: base.Redacted(), Err: fmt.Errorf("its index gives no address for %s %s", src.Name, entry.Version)}
	}
	at, err := base.Parse(entry.URLs[0])
	if err != nil || at.Scheme != "http" && at.Scheme != "https" {
		return nil, &UpstreamError{Where: base.Redacted(), Err: fmt.Errorf("its index gives %q as the address of %s %s", invalid.ClipURL(entry.URLs[0]), src.Name, entry.Version)}
	}
	tgz, err := s.get(ctx, at, MaxSize)
	if err != nil {
		return nil, err
	}
	want := "sha256:" + strings.ToLower(strings.TrimPrefix(entry.Digest, "sha256:"))
	if entry.Digest != "" && chartfile.Digest(tgz) != want {
		return nil, &UpstreamError{Where: invalid.ClipURL(at.String()), Err: fmt.Errorf("the chart's digest is %s and not the index's %s", chartfile.Digest(tgz), invalid.Clip(want))}
	}
	return tgz, nil
}

func parseRepository(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil, u.Host == "", u.Scheme != "http" && u.Scheme != "https":
		return nil, invalid.New("chart.repository", "%q is not the http or https address of a Helm repository; give it as https://host/path", invalid.ClipURL(s))
	case u.User != nil:
		return nil, invalid.New("chart.repository", "it holds a user name or password, which the hub does not take; fetch the chart yourself and push it")
	}
	u.RawQuery, u.Fragment = "", ""
	u.Path = strings.TrimRight(strings.TrimSuffix(u.Path, "/index.yaml"), "/") + "/"
	return u, nil
}

// lookUp finds the version that is asked for, or the newest stable one.
func (s *Service) lookUp(ctx context.Context, base *url.URL, src Source) (indexEntry, error) {
	raw, err := s.get(ctx, base.JoinPath("index.yaml"), maxIndex)
	if err != nil {
		return indexEntry{}, err
	}
	var idx index
	if err := yaml.Unmarshal(raw, &idx); err != nil || idx.Entries == nil {
		return indexEntry{}, &UpstreamError{Where: base.Redacted(), Err: errors.New("its index.yaml is not that of a Helm repository")}
	}
	entries := idx.Entries[src.Name]
	if len(entries) == 0 {
		return indexEntry{}, invalid.New("chart.name", "%q is not in repository %s; correct the name", invalid.Clip(src.Name), base.Redacted())
	}
	versions := make([]string, len(entries))
	for i, e := range entries {
		versions[i] = e.Version
	}
	i := choose(versions, src.Version)
	if i < 0 {
		return indexEntry{}, noVersion(src.Name+" in "+base.Redacted(), src.Version, versions)
	}
	return entries[i], nil
}

// choose gives the place of want among versions; of the newest that is no
// pre-release when want is empty; or -1.
func choose(versions []string, want string) int {
	best := -1
	var newest *semver.Version
	for i, v := range versions {
		if want != "" {
			if strings.TrimPrefix(v, "v") == strings.TrimPrefix(want, "v") {
				return i
			}
			continue
		}
		parsed, err := semver.NewVersion(v)
		if err != nil || parsed.Prerelease() != "" {
			continue
		}
		if newest == nil || parsed.GreaterThan(newest) {
			best, newest = i, parsed
		}
	}
	return best
}

func noVersion(what, want string, versions []string) error {
	if want == "" {
		return invalid.New("chart.version", "it is missing, and %s has no stable version; name one of %s", what, someOf(versions))
	}
	return invalid.New("chart.version", "%q is not a version of %s; name one of %s", invalid.Clip(want), what, someOf(versions))
}

// someOf lists the newest few versions.
func someOf(versions []string) string {
	var parsed []*semver.Version
	for _, v := range versions {
		if p, err := semver.NewVersion(v); err == nil {
			parsed = append(parsed, p)
		}
	}
	slices.SortFunc(parsed, func(a, b *semver.Version) int { return b.Compare(a) })
	out := make([]string, 0, 5)
	for _, p := range parsed[:min(len(parsed), 5)] {
		out = append(out, invalid.Clip(p.Original()))
	}
	if len(parsed) > 5 {
		out = append(out, "…")
	}
	return strings.Join(out, ", ")
}

// get fetches at most limit bytes.
func (s *Service) get(ctx context.Context, at *url.URL, limit int64) ([]byte, error) {
	where := invalid.ClipURL(at.String())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, fmt.Errorf("make request for %s: %w", where, err)
	}
	req.Header.Set("User-Agent", "budcluster-hub")
	resp, err := (&http.Client{Transport: s.transport}).Do(req)
	if err != nil {
		return nil, &UpstreamError{Where: where, Err: causeOf(ctx, err)}
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, &UpstreamError{Where: where, Err: fmt.Errorf("it answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))}
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, &UpstreamError{Where: where, Err: causeOf(ctx, err)}
	}
	if int64(len(body)) > limit {
		return nil, &UpstreamError{Where: where, Err: fmt.Errorf("its answer is larger than %d bytes", limit)}
	}
	return body, nil
}

// causeOf prefers our own reason to net/http's, and drops its repeated URL.
func causeOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if ue := (*url.Error)(nil); errors.As(err, &ue) {
		return ue.Err
	}
	return err
}
