// Package chart keeps packed Helm charts by what they contain.
//
//	Put(.tgz) ─────────────────────────────► Inspect ─► Store (by digest)
//	Resolve(digest) ── Store                    ▲
//	       (path)   ── folder below chartsDir ──┤ Pack, if it is a folder
//	       (repository) ── index.yaml ── .tgz ──┤
//	       (oci) ── registry ── .tgz ───────────┘
//
// The digest of the packed bytes is the chart's name everywhere else: a
// release asks for a digest, the agent fetches and checks it. Where a chart
// came from is forgotten once it is here, so a repository that vanishes or
// changes a version in place disturbs no release.
//
// What anybody may send is read by internal/chartfile: nothing is written to a
// disk, and every size is bounded before it is believed. A chart that passes is
// one that Helm's own loader accepts; whether its templates render is found out
// by the agent.
package chart

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/internal/chartfile"
)

// MaxSize is the most that a packed chart may weigh.
const MaxSize = chartfile.MaxSize

// ErrNotFound says that no chart of that digest is here.
var ErrNotFound = errors.New("no such chart")

// Meta describes a chart.
type Meta struct {
	Name        string
	Version     string
	AppVersion  string
	Description string
	// Digest is "sha256:" and hex over the packed bytes.
	Digest string
	// Size is that of the packed bytes.
	Size int64
	// CreatedAt is when the hub first got it.
	CreatedAt time.Time
}

// Chart is a packed chart with its description.
type Chart struct {
	Meta
	Content []byte
}

// Store keeps charts. A chart never changes: PutChart of a digest that is
// there changes nothing and returns false.
type Store interface {
	PutChart(ctx context.Context, c Chart) (created bool, err error)
	// ChartContent and ChartMeta return ErrNotFound for an unknown digest.
	ChartContent(ctx context.Context, digest string) ([]byte, error)
	ChartMeta(ctx context.Context, digest string) (Meta, error)
	// Charts is ordered by name, version, digest.
	Charts(ctx context.Context, p page.Page) ([]Meta, string, error)
}

// NotFoundError says which chart is not here. It is ErrNotFound.
type NotFoundError struct{ Digest string }

// Error names the digest and the remedy.
func (e *NotFoundError) Error() string {
	return fmt.Sprintf("the hub holds no chart %s; push it first, or name a repository", e.Digest)
}

// Is makes it ErrNotFound.
func (e *NotFoundError) Is(target error) bool { return target == ErrNotFound }

// UpstreamError says that a repository or registry did not answer as it should.
type UpstreamError struct {
	// Where is the address that was asked.
	Where string
	Err   error
}

// Error names the address, the cause and the remedy.
func (e *UpstreamError) Error() string {
	return fmt.Sprintf("fetch chart from %s: %v; check the address and that the hub may reach it, or push the chart instead",
		e.Where, e.Err)
}

// Unwrap gives the cause.
func (e *UpstreamError) Unwrap() error { return e.Err }

// Inspect says what a packed chart is.
func Inspect(tgz []byte) (Meta, error) {
	i, err := chartfile.Inspect(tgz)
	return metaOf(i), err
}

// Pack makes the packed form of the chart in a folder; the same folder gives
// the same bytes.
func Pack(dir fs.FS) ([]byte, Meta, error) {
	tgz, i, err := chartfile.Pack(dir)
	return tgz, metaOf(i), err
}

func metaOf(i chartfile.Info) Meta {
	return Meta{
		Name: i.Name, Version: i.Version, AppVersion: i.AppVersion, Description: i.Description,
		Digest: i.Digest, Size: i.Size,
	}
}
