package equip_test

import (
	"context"
	"io/fs"
	"log/slog"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/charts"
	"github.com/budecosystem/budcluster/hub/internal/chart"
	"github.com/budecosystem/budcluster/hub/internal/component"
	"github.com/budecosystem/budcluster/hub/internal/equip"
	"github.com/budecosystem/budcluster/hub/internal/store/storetest"
	"github.com/budecosystem/budcluster/internal/facts"
)

// publisher is charts that were downloaded, and what would be downloaded now.
type publisher struct {
	equip.Charts

	held      map[string]bool
	published string
	downloads int
}

func (p *publisher) Meta(_ context.Context, digest string) (chart.Meta, error) {
	if !p.held[digest] {
		return chart.Meta{}, chart.ErrNotFound
	}
	return chart.Meta{Digest: digest}, nil
}

func (p *publisher) Resolve(context.Context, string, chart.Source) (chart.Meta, error) {
	p.downloads++
	p.held[p.published] = true
	return chart.Meta{Digest: p.published}, nil
}

// Charts that are pinned by nobody are what they were at their first download,
// for all clusters.
func TestFirstDownloadPins(t *testing.T) {
	t.Parallel()
	type (
		clusters  struct{ equip.Clusters }
		inventory struct{ equip.Inventory }
		releases  struct{ equip.Releases }
	)
	catalogue, err := component.Load(nil)
	require.NoError(t, err)
	p := &publisher{held: map[string]bool{}, published: "sha256:first"}
	s, err := equip.New(equip.Config{
		Catalogue: catalogue, Store: storetest.New(t), Clusters: clusters{}, Inventory: inventory{}, Releases: releases{}, Charts: p,
		Presence: func(context.Context, uuid.UUID) ([]facts.Presence, error) { return nil, nil },
		Builtin:  func(name string) (fs.FS, error) { return charts.Chart(name) }, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	get := func(c component.Chart) (string, error) {
		meta, err := s.Chart(t.Context(), "ann", &equip.Look{Item: component.Item{Title: "HAMi", Chart: c}})
		return meta.Digest, err
	}
	hami := component.Chart{Repository: "https://charts.example", Name: "hami", Version: "2.10.0"}
	for range 2 {
		digest, err := get(hami)
		require.NoError(t, err)
		require.Equal(t, "sha256:first", digest)
	}
	require.Equal(t, 1, p.downloads, "the hub holds it")

	p.published = "sha256:replaced"
	digest, err := get(hami)
	require.NoError(t, err)
	require.Equal(t, "sha256:first", digest)
	clear(p.held) // nobody used it, and it was purged
	_, err = get(hami)
	var refused *equip.DigestError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "the chart of HAMi 2.10.0 has digest sha256:replaced where the first download had sha256:first; "+
		"if the publisher really replaced it, set the digest in the hub's componentsDir", err.Error())

	newer := hami
	newer.Version = "2.11.0"
	digest, err = get(newer)
	require.NoError(t, err)
	require.Equal(t, "sha256:replaced", digest, "another version has a first download of its own")
	pinned := hami
	pinned.Digest = "sha256:replaced"
	digest, err = get(pinned)
	require.NoError(t, err)
	require.Equal(t, "sha256:replaced", digest, "whom the catalogue says overrules it")
	pinned.Digest = "sha256:other"
	_, err = get(pinned)
	require.ErrorContains(t, err, "where the catalogue pins sha256:other")
}
