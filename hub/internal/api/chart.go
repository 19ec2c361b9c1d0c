package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strconv"

	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/internal/chart"
)

func (s *Server) listCharts(ctx context.Context, in *PageInput) (*body[hubapi.List[hubapi.Chart]], error) {
	charts, next, err := s.cfg.Charts.List(ctx, in.page())
	if err != nil {
		return nil, err
	}
	return listed(charts, next, chartOut), nil
}

type pushChartInput struct {
	RawBody []byte `contentType:"application/gzip"`
}

func (s *Server) pushChart(ctx context.Context, in *pushChartInput) (*body[hubapi.Chart], error) {
	m, err := s.cfg.Charts.Put(ctx, actor(ctx), in.RawBody)
	if err != nil {
		return nil, err
	}
	return &body[hubapi.Chart]{Body: chartOut(m)}, nil
}

func chartOut(m chart.Meta) hubapi.Chart {
	return hubapi.Chart{
		Digest: m.Digest, Name: m.Name, Version: m.Version, AppVersion: m.AppVersion,
		Description: m.Description, Size: m.Size, CreatedAt: m.CreatedAt,
	}
}

// agentChart is our own chart, packed, in the version that fits this hub.
type agentChart struct {
	file   string
	digest string
	tgz    []byte
}

func packAgentChart(dir fs.FS) (agentChart, error) {
	if dir == nil {
		return agentChart{}, errors.New("api: AgentChart is needed")
	}
	tgz, m, err := chart.Pack(dir)
	if err != nil {
		return agentChart{}, fmt.Errorf("pack the agent's chart: %w", err)
	}
	return agentChart{file: m.Name + "-" + m.Version + ".tgz", digest: m.Digest, tgz: tgz}, nil
}

// serveChart hands out the agent's chart. It needs no key, since helm has none;
// the chart is public, and the token that is needed to join is not in it.
func (s *Server) serveChart(w http.ResponseWriter, r *http.Request) {
	if r.PathValue("file") != s.chart.file {
		s.writeProblem(w, r, s.problem(r.Context(), &hubapi.Problem{
			Status: http.StatusNotFound, Code: hubapi.CodeNotFound,
			Detail: "There is no such chart here; this hub has /charts/" + s.chart.file + ".",
		}))
		return
	}
	w.Header().Set("Content-Type", "application/gzip")
	w.Header().Set("Cache-Control", "no-cache")
	w.Header().Set("ETag", `"`+s.chart.digest+`"`)
	w.Header().Set("Content-Length", strconv.Itoa(len(s.chart.tgz)))
	_, _ = w.Write(s.chart.tgz)
}
