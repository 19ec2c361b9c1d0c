package platform

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/inventory"
	"github.com/budecosystem/budcluster/hub/internal/mirror"
	"github.com/budecosystem/budcluster/hub/internal/notify"
	"github.com/budecosystem/budcluster/hub/internal/operation"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/facts"
	"github.com/budecosystem/budcluster/internal/secret"
)

// Actor is who asks, in the record of what happened.
const Actor = "platform"

// DefaultPatience is how long a cancelled workflow is waited for: the platform
// gives up after a minute.
const DefaultPatience = 45 * time.Second

// DefaultDeadLetter is where messages end that nobody takes.
const DefaultDeadLetter = "poisonMessages"

// Clusters is the register; cluster.Service.
type Clusters interface {
	Get(ctx context.Context, ref string) (*cluster.Cluster, error)
	List(ctx context.Context, p page.Page) ([]*cluster.Cluster, string, error)
	SetIngressURL(ctx context.Context, actor, ref, ingressURL string) (*cluster.Cluster, error)
	Presence(ctx context.Context, clusterID uuid.UUID) (cluster.Presence, error)
}

// Inventory is what clusters have; inventory.Service.
type Inventory interface {
	Nodes(ctx context.Context, f inventory.Filter, p page.Page) ([]inventory.Node, string, error)
	Node(ctx context.Context, clusterID uuid.UUID, name string) (*inventory.Node, error)
	NodeEvents(ctx context.Context, clusterID uuid.UUID, node string) ([]facts.NodeEvent, error)
	NodeEventCounts(ctx context.Context, clusterID uuid.UUID) (map[string]int64, error)
}

// Workflows is the record of long work; workflow.Service.
type Workflows interface {
	Get(ctx context.Context, ref string) (*workflow.Workflow, error)
	Cancel(ctx context.Context, actor, ref string) (*workflow.Workflow, error)
	List(ctx context.Context, f workflow.Filter, p page.Page) ([]*workflow.Workflow, string, error)
}

// Operations is long work with clusters; operation.Service.
type Operations interface {
	Remove(ctx context.Context, actor string, req operation.Remove) (*workflow.Workflow, error)
	Status(ctx context.Context, actor, ref string, reply json.RawMessage) (*workflow.Workflow, error)
	Retry(ctx context.Context, actor, ref string) (*workflow.Workflow, error)
}

// Registration is a cluster that the platform wants to have.
type Registration struct {
	// Name is that of the register.
	Name string
	// Existing registers one again that is in the register already.
	Existing   bool
	IngressURL string
	// Kubeconfig is used once, and overwritten by whoever used it.
	Kubeconfig []byte
	// Reply is whom to tell, in notify's form.
	Reply json.RawMessage
}

// Config makes a Server.
type Config struct {
	Logger     *slog.Logger
	Clusters   Clusters
	Inventory  Inventory
	Workflows  Workflows
	Operations Operations
	// Register begins a registration. What it says of the file are
	// invalid.Errors of the field kubeconfig or of those below it.
	Register func(ctx context.Context, actor string, r Registration) (*workflow.Workflow, error)
	// Watch wakes when there may be a new event of the cluster, or of any when
	// it is empty.
	Watch func(clusterID string) (wake <-chan struct{}, cancel func())

	// Metrics is where requests are counted; nil counts them nowhere.
	Metrics prometheus.Registerer
	// Token is what the sidecar must present, APP_API_TOKEN on its side. Without
	// one everybody may ask, as it always was.
	Token secret.String
	// Sidecar is nil where there is none: then nothing is shared by state.
	Sidecar Sidecar
	// PubSub is the broker whose topic OwnTopic is subscribed to; empty
	// subscribes to none, for a subscription that is declared elsewhere.
	PubSub string
	// AppID, OwnTopic and DeadLetter have the platform's names as defaults.
	AppID, OwnTopic, DeadLetter string
	// Settings and Secrets are the names of what is taken from the stores.
	Settings, Secrets []string
	// Changed hears the settings, at the start and when they change. May be nil.
	Changed func(ctx context.Context, settings map[string]string)
	// SecretName is the secret of the store that has all Secrets; empty: each is one
	// of its own.
	SecretName string
	// Rotated hears the secrets that the store has, at the start, on each sync, and
	// now and then. May be nil.
	Rotated func(ctx context.Context, secrets map[string]secret.String)
	// Undescribed serves neither /docs nor /openapi.json.
	Undescribed bool
	// Grace is mirror.DefaultGrace when zero.
	Grace time.Duration
	// Patience is DefaultPatience when zero.
	Patience time.Duration
	// Now is time.Now when nil.
	Now func() time.Time
}

// Server is the platform's face of the hub.
type Server struct {
	cfg     Config
	log     *slog.Logger
	now     func() time.Time
	began   time.Time
	routes  []route
	handler http.Handler
	metrics *metrics
	// settings wakes Run when the sidecar says that a setting changed, started
	// when a sidecar asks what one asks that starts.
	settings, started chan struct{}
}

// New checks cfg and makes the Server. It starts nothing.
func New(cfg Config) (*Server, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg.AppID, cfg.OwnTopic = cmp.Or(cfg.AppID, notify.DefaultAppID), cmp.Or(cfg.OwnTopic, notify.DefaultOwnTopic)
	cfg.DeadLetter, cfg.Grace, cfg.Patience = cmp.Or(cfg.DeadLetter, DefaultDeadLetter), cmp.Or(cfg.Grace, mirror.DefaultGrace), cmp.Or(cfg.Patience, DefaultPatience)
	s := &Server{cfg: cfg, log: cfg.Logger, now: cfg.Now, settings: make(chan struct{}, 1), started: make(chan struct{}, 1)}
	if s.now == nil {
		s.now = time.Now
	}
	s.began = s.now()
	s.routes = routes()
	if cfg.Undescribed {
		s.routes = slices.DeleteFunc(s.routes, func(r route) bool { return r.pattern == pathDocs || r.pattern == pathOpenAPI })
	}
	mux := http.NewServeMux()
	for _, r := range s.routes {
		mux.HandleFunc(r.method+" "+r.pattern, s.serve(r))
	}
	mux.HandleFunc("/", s.unknown)
	var err error
	if s.metrics, err = newMetrics(cfg.Metrics); err != nil {
		return nil, err
	}
	s.handler = s.observe(s.guard(mux))
	return s, nil
}

func (c *Config) check() error {
	var errs []error
	for name, missing := range map[string]bool{
		"Logger": c.Logger == nil, "Clusters": c.Clusters == nil, "Inventory": c.Inventory == nil,
		"Workflows": c.Workflows == nil, "Operations": c.Operations == nil, "Register": c.Register == nil, "Watch": c.Watch == nil,
	} {
		if missing {
			errs = append(errs, fmt.Errorf("platform: %s is needed", name))
		}
	}
	if c.Grace < 0 || c.Patience < 0 {
		errs = append(errs, errors.New("platform: Grace and Patience must not be negative"))
	}
	return errors.Join(errs...)
}

// Handler answers the platform, for a listener of its own.
func (s *Server) Handler() http.Handler { return s.handler }

// tokenHeader is the sidecar's.
const tokenHeader = "Dapr-Api-Token" //nolint:gosec // a header's name

// guard asks for the token, of every route.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.cfg.Token.IsZero() && !s.cfg.Token.Equal(secret.New(r.Header.Get(tokenHeader))) {
			s.write(r.Context(), w, failed(http.StatusUnauthorized, "The header dapr-api-token is missing or wrong; call by the sidecar, with the token that the hub was given."))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// unknown answers what no route is for, and methods that a route does not have.
func (s *Server) unknown(w http.ResponseWriter, r *http.Request) {
	for _, one := range s.routes {
		if one.matches(r.URL.Path) {
			w.Header().Set("Allow", one.method)
			s.write(r.Context(), w, refused(http.StatusMethodNotAllowed, "Method Not Allowed"))
			return
		}
	}
	s.write(r.Context(), w, refused(http.StatusNotFound, "Not Found"))
}
