package agentapi

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// chunk is the data of one message: with its frame below 64 KiB, so that a
// chart never holds up a heartbeat for long on a slow line.
const chunk = 60 << 10

// readChart bounds the read of one chart, 20 MiB at most, from the store.
const readChart = 30 * time.Second

// FetchChart streams a chart, if a release of the calling cluster names it.
// Any other digest is unknown to the caller, whether we hold it or not.
func (r *releaseServer) FetchChart(req *agentv1.FetchChartRequest, stream grpc.ServerStreamingServer[agentv1.FetchChartResponse]) error {
	ctx := stream.Context()
	id, err := caller(ctx)
	if err != nil {
		return err
	}
	digest := req.GetDigest()
	if !isDigest(digest) {
		return refuse(codes.InvalidArgument, "ChartDigestInvalid", `a chart's digest is "sha256:" and 64 hexadecimal digits`)
	}
	allowed, err := r.s.cfg.Releases.ChartAllowed(ctx, id, digest)
	if err != nil {
		return r.s.fail(ctx, "look up chart", err)
	}
	if !allowed {
		return refuse(codes.NotFound, "ChartUnknown", fmt.Sprintf("no release of this cluster names the chart %s", digest))
	}
	data, release, err := r.s.charts.hold(ctx, digest)
	if err != nil {
		return r.s.fail(ctx, "read chart", err)
	}
	defer release()
	msg := &agentv1.FetchChartResponse{Size: int64(len(data))}
	for {
		n := min(chunk, len(data))
		msg.Data, data = data[:n], data[n:]
		if err := stream.Send(msg); err != nil {
			return err
		}
		r.s.metrics.chartBytes.Add(float64(n))
		if len(data) == 0 {
			return nil
		}
		msg = &agentv1.FetchChartResponse{}
	}
}

func isDigest(s string) bool {
	return regexp.MustCompile(`^sha256:[0-9a-f]{64}$`).MatchString(s)
}

// sharedCharts keeps one copy of a chart in memory however many agents read
// it: a new version rolled out to the fleet costs one chart, not one per
// agent. It is dropped with its last reader.
type sharedCharts struct {
	source Charts

	mu   sync.Mutex // guards held
	held map[string]*heldChart
}

type heldChart struct {
	readers int
	once    sync.Once
	data    []byte
	err     error
}

func newSharedCharts(source Charts) *sharedCharts {
	return &sharedCharts{source: source, held: map[string]*heldChart{}}
}

func (c *sharedCharts) hold(ctx context.Context, digest string) (data []byte, release func(), err error) {
	c.mu.Lock()
	h := c.held[digest]
	if h == nil {
		h = &heldChart{}
		c.held[digest] = h
	}
	h.readers++
	c.mu.Unlock()
	release = func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if h.readers--; h.readers == 0 || h.err != nil {
			if c.held[digest] == h {
				delete(c.held, digest)
			}
		}
	}
	h.once.Do(func() {
		// Others wait for this read too: it must not end with its first reader.
		read, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), readChart, errors.New("read chart: over 30s"))
		defer cancel()
		h.data, h.err = c.source.Get(read, digest)
	})
	if h.err != nil {
		release()
		return nil, nil, h.err
	}
	return h.data, release, nil
}
