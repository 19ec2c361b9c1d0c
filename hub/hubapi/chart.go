package hubapi

import (
	"context"
	"io"
	"iter"
	"net/http"
	"time"
)

// Chart is one packed chart that the hub holds.
type Chart struct {
	Digest      string    `json:"digest" doc:"sha256: and hex of the packed chart."`
	Name        string    `json:"name"`
	Version     string    `json:"version"`
	AppVersion  string    `json:"appVersion,omitempty"`
	Description string    `json:"description,omitempty"`
	Size        int64     `json:"size" doc:"Bytes, packed."`
	CreatedAt   time.Time `json:"createdAt"`
}

// Charts gives one page of charts, by name and version.
func (c *Client) Charts(ctx context.Context, p PageOptions) (List[Chart], error) {
	var out List[Chart]
	_, err := c.do(ctx, request{method: http.MethodGet, path: []string{"charts"}, query: p.query()}, &out)
	return out, err
}

// AllCharts gives every chart.
func (c *Client) AllCharts(ctx context.Context) iter.Seq2[Chart, error] {
	return all(ctx, PageOptions{}, c.Charts)
}

// PushChart gives the hub a packed chart (.tgz). One that it holds already is
// no error.
func (c *Client) PushChart(ctx context.Context, tgz io.Reader) (Chart, error) {
	var out Chart
	_, err := c.do(ctx, request{
		method: http.MethodPost, path: []string{"charts"}, raw: tgz,
		header: http.Header{"Content-Type": {"application/gzip"}},
	}, &out)
	return out, err
}
