package chart

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/internal/chartfile"
	"github.com/budecosystem/budcluster/internal/logkey"
)

// DefaultFetchTimeout bounds fetching one chart from a repository.
const DefaultFetchTimeout = 2 * time.Minute

// Config makes a Service.
type Config struct {
	Store  Store
	Logger *slog.Logger
	// Dir is the folder that Source.Path is looked up in; empty: none.
	Dir string
	// Transport fetches from repositories and registries; by default one that
	// honours the proxy of the environment and reaches no link-local address,
	// where clouds keep their machines' credentials.
	Transport http.RoundTripper
	// FetchTimeout is DefaultFetchTimeout when zero.
	FetchTimeout time.Duration
	// Now is time.Now when nil.
	Now func() time.Time
}

// Service keeps charts and finds them.
type Service struct {
	store     Store
	log       *slog.Logger
	dir       string
	transport http.RoundTripper
	timeout   time.Duration
	now       func() time.Time
}

// New checks cfg and makes the Service.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Logger == nil {
		return nil, errors.New("chart: Store and Logger are needed")
	}
	s := &Service{
		store: cfg.Store, log: cfg.Logger, dir: cfg.Dir, transport: cfg.Transport,
		timeout: cmp.Or(cfg.FetchTimeout, DefaultFetchTimeout), now: cfg.Now,
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.transport == nil {
		s.transport = newTransport()
	}
	return s, nil
}

// newTransport is for addresses that a user of the API names.
func newTransport() *http.Transport {
	d := &net.Dialer{Timeout: 15 * time.Second, Control: refuseLinkLocal}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           d.DialContext,
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
		IdleConnTimeout:       30 * time.Second,
		MaxIdleConns:          8,
		ForceAttemptHTTP2:     true,
	}
}

func refuseLinkLocal(_, address string, _ syscall.RawConn) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("split address: %w", err)
	}
	if ip := net.ParseIP(host); ip != nil && (ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast()) {
		return fmt.Errorf("%s is a link-local address, which no chart is fetched from", host)
	}
	return nil
}

// Put keeps a packed chart. One that is here already is no error.
func (s *Service) Put(ctx context.Context, actor string, tgz []byte) (Meta, error) {
	m, err := Inspect(tgz)
	if err != nil {
		return Meta{}, invalid.New("body", "%v", err)
	}
	return s.keep(ctx, actor, m, tgz)
}

func (s *Service) keep(ctx context.Context, actor string, m Meta, tgz []byte) (Meta, error) {
	m.CreatedAt = s.now().UTC()
	created, err := s.store.PutChart(ctx, Chart{Meta: m, Content: tgz})
	if err != nil {
		return Meta{}, fmt.Errorf("keep chart %s: %w", m.Digest, err)
	}
	if created {
		s.log.InfoContext(ctx, "chart stored", slog.String(logkey.Chart, m.Name), slog.String(logkey.Version, m.Version),
			slog.String(logkey.Digest, m.Digest), slog.Int64(logkey.Bytes, m.Size), slog.String(logkey.Actor, actor))
	}
	return s.Meta(ctx, m.Digest)
}

// Get gives a chart's packed bytes.
func (s *Service) Get(ctx context.Context, digest string) ([]byte, error) {
	if !chartfile.IsDigest(digest) {
		return nil, &NotFoundError{Digest: invalid.Clip(digest)}
	}
	b, err := s.store.ChartContent(ctx, digest)
	if errors.Is(err, ErrNotFound) {
		return nil, &NotFoundError{Digest: digest}
	}
	return b, err
}

// Meta describes one chart.
func (s *Service) Meta(ctx context.Context, digest string) (Meta, error) {
	if !chartfile.IsDigest(digest) {
		return Meta{}, &NotFoundError{Digest: invalid.Clip(digest)}
	}
	m, err := s.store.ChartMeta(ctx, digest)
	if errors.Is(err, ErrNotFound) {
		return Meta{}, &NotFoundError{Digest: digest}
	}
	return m, err
}

// List gives one page of charts, by name and version.
func (s *Service) List(ctx context.Context, p page.Page) ([]Meta, string, error) {
	return s.store.Charts(ctx, p)
}
