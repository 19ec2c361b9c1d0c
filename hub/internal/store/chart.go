package store

import (
	"context"

	"github.com/budecosystem/budcluster/hub/internal/chart"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/hub/internal/store/sqlcgen"
)

// PutChart stores a chart unless it is there.
func (s *Store) PutChart(ctx context.Context, c chart.Chart) (created bool, err error) {
	n, err := s.q.ChartInsert(ctx, s.db(ctx), sqlcgen.ChartInsertParams{
		Digest: c.Digest, Name: c.Name, Version: c.Version, AppVersion: c.AppVersion, Description: c.Description,
		Size: c.Size, Content: c.Content, CreatedAt: c.CreatedAt,
	})
	return n > 0, err
}

// ChartContent returns the packed bytes of a chart.
func (s *Store) ChartContent(ctx context.Context, digest string) ([]byte, error) {
	content, err := s.q.ChartContent(ctx, s.db(ctx), digest)
	return content, notFound(err, chart.ErrNotFound)
}

// ChartMeta describes a chart.
func (s *Store) ChartMeta(ctx context.Context, digest string) (chart.Meta, error) {
	r, err := s.q.ChartMeta(ctx, s.db(ctx), digest)
	if err != nil {
		return chart.Meta{}, notFound(err, chart.ErrNotFound)
	}
	return metaOf(r), nil
}

// Charts returns one page of charts in order of name, version and digest.
func (s *Store) Charts(ctx context.Context, p page.Page) ([]chart.Meta, string, error) {
	key, err := p.Key(3)
	if err != nil {
		return nil, "", err
	}
	rows, err := s.q.ChartList(ctx, s.db(ctx), sqlcgen.ChartListParams{
		AfterName: key[0], AfterVersion: key[1], AfterDigest: key[2], Lim: int32(p.Size() + 1), //nolint:gosec // a page's size
	})
	if err != nil {
		return nil, "", err
	}
	charts := make([]chart.Meta, 0, len(rows))
	for _, r := range rows {
		charts = append(charts, metaOf(sqlcgen.ChartMetaRow(r)))
	}
	charts, next := page.Cut(charts, p, func(m chart.Meta) []string { return []string{m.Name, m.Version, m.Digest} })
	return charts, next, nil
}

func metaOf(r sqlcgen.ChartMetaRow) chart.Meta {
	return chart.Meta{
		Name: r.Name, Version: r.Version, AppVersion: r.AppVersion, Description: r.Description, Digest: r.Digest,
		Size: r.Size, CreatedAt: r.CreatedAt,
	}
}
