package api

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/budecosystem/budcluster/hub/internal/operation"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

// DefaultHeartbeat is how often an event stream says that it lives.
const DefaultHeartbeat = 15 * time.Second

// DefaultBodyTimeout is how long a body of JSON may take to come.
const DefaultBodyTimeout = 30 * time.Second

// stopGrace is how long requests in progress may take when the hub stops.
const stopGrace = 10 * time.Second

// Config makes a Server.
type Config struct {
	Logger *slog.Logger
	// Metrics is what /metrics shows; the server adds its own.
	Metrics *prometheus.Registry

	Webhooks   Webhooks
	Messages   Messages
	Clusters   Clusters
	Tokens     Tokens
	Releases   Releases
	Inventory  Inventory
	Charts     Charts
	Access     Access
	Events     Events
	Agents     Agents
	Workflows  Workflows
	Operations Operations
	Equipment  Equipment
	// Upload begins a registration with a kubeconfig, which it overwrites with
	// zeros. What it says of the file are invalid.Errors of the field kubeconfig or
	// of those below it.
	Upload func(ctx context.Context, actor string, req operation.Register, kubeconfig []byte) (*workflow.Workflow, error)

	// Watch wakes when there may be a new event of the cluster, or of any when
	// it is empty.
	Watch func(clusterID string) (wake <-chan struct{}, cancel func())
	// Ready are what has to work for the hub to be ready, by name.
	Ready map[string]func(context.Context) error
	// AgentChart is the folder of the agent's Helm chart.
	AgentChart fs.FS
	// PublicURL is how this server is reached from clusters; when empty, the
	// address that the request came to.
	PublicURL string
	// TunnelAddress is host:port where agents dial; without a host it is that
	// of PublicURL.
	TunnelAddress string

	// Now is time.Now when nil.
	Now func() time.Time
	// Heartbeat is DefaultHeartbeat when zero.
	Heartbeat time.Duration
	// BodyTimeout is how long a body of JSON may take to come;
	// DefaultBodyTimeout when zero.
	BodyTimeout time.Duration
}

// Server is /v1 and what stands beside it.
type Server struct {
	cfg     Config
	log     *slog.Logger
	now     func() time.Time
	huma    huma.API
	mux     *http.ServeMux
	metrics *metrics
	chart   agentChart
	handler http.Handler
}

// New checks cfg and makes the Server.
func New(cfg Config) (*Server, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, log: cfg.Logger, now: cfg.Now, mux: http.NewServeMux()}
	if s.now == nil {
		s.now = time.Now
	}
	s.cfg.Heartbeat = cmp.Or(cfg.Heartbeat, DefaultHeartbeat)
	s.cfg.BodyTimeout = cmp.Or(cfg.BodyTimeout, DefaultBodyTimeout)
	var err error
	if s.metrics, err = newMetrics(cfg.Metrics); err != nil {
		return nil, err
	}
	if s.chart, err = packAgentChart(cfg.AgentChart); err != nil {
		return nil, err
	}
	s.huma = humago.New(s.mux, s.humaConfig())
	for _, r := range routes() {
		r.mount(s, s.operation(r))
	}
	if err := s.mountRest(); err != nil {
		return nil, err
	}
	s.handler = s.observe(s.mux)
	return s, nil
}

func (c *Config) check() error {
	var errs []error
	for name, missing := range map[string]bool{
		"Logger": c.Logger == nil, "Metrics": c.Metrics == nil, "Clusters": c.Clusters == nil, "Tokens": c.Tokens == nil,
		"Releases": c.Releases == nil, "Inventory": c.Inventory == nil, "Charts": c.Charts == nil, "Access": c.Access == nil,
		"Events": c.Events == nil, "Agents": c.Agents == nil, "Webhooks": c.Webhooks == nil, "Messages": c.Messages == nil, "Watch": c.Watch == nil, "AgentChart": c.AgentChart == nil,
		"Workflows": c.Workflows == nil, "Operations": c.Operations == nil, "Upload": c.Upload == nil, "Equipment": c.Equipment == nil,
	} {
		if missing {
			errs = append(errs, fmt.Errorf("api: %s is needed", name))
		}
	}
	if _, err := newPlaces(c.PublicURL, c.TunnelAddress); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// mountRest adds what needs no key and is not of /v1.
func (s *Server) mountRest() error {
	spec, err := s.describe()
	if err != nil {
		return err
	}
	s.mux.HandleFunc("GET /healthz", serveText("text/plain; charset=utf-8", []byte("ok\n")))
	s.mux.HandleFunc("GET /readyz", s.serveReady)
	s.mux.Handle("GET /metrics", promhttp.HandlerFor(s.cfg.Metrics, promhttp.HandlerOpts{Registry: s.cfg.Metrics}))
	s.mux.HandleFunc("GET /openapi.json", serveText("application/openapi+json", spec.json))
	s.mux.HandleFunc("GET /openapi.yaml", serveText("application/openapi+yaml", spec.yaml))
	s.mux.HandleFunc("GET /docs", serveDocs)
	s.mux.HandleFunc("GET /charts/{file}", s.serveChart)
	s.mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/docs", http.StatusFound) })
	s.mux.HandleFunc("/", s.serveUnknown)
	return nil
}

// Handler is everything, for a test or a server of one's own.
func (s *Server) Handler() http.Handler { return s.handler }

// stopKey finds in a request's context the channel that closes when the server
// stops: event streams end then, other requests may finish.
type stopKey struct{}

// Serve answers on ln, with TLS when tc is not nil, until ctx ends; then
// requests in progress get some seconds to finish.
func (s *Server) Serve(ctx context.Context, ln net.Listener, tc *tls.Config) error {
	base := context.WithValue(context.WithoutCancel(ctx), stopKey{}, ctx.Done())
	srv := &http.Server{
		Handler:           s.handler,
		BaseContext:       func(net.Listener) context.Context { return base },
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		TLSConfig:         tc,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() {
		if tc != nil {
			ended <- srv.ServeTLS(ln, "", "")
			return
		}
		ended <- srv.Serve(ln)
	}()
	select {
	case err := <-ended:
		return fmt.Errorf("serve api: %w", err)
	case <-ctx.Done():
	}
	// ctx has ended, so the last requests need time of their own.
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
	defer cancel()
	if err := srv.Shutdown(grace); err != nil {
		_ = srv.Close()
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve api: %w", err)
	}
	return nil
}
