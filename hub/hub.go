package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/budecosystem/budcluster/internal/logkey"
	"github.com/budecosystem/budcluster/internal/run"
)

// Options are what a Hub is given besides its configuration.
type Options struct {
	Logger *slog.Logger
	// Level, if it is Logger's, lets the platform's configuration store turn the
	// log up.
	Level *slog.LevelVar
	// Out is where --dev prints the first admin key; nil prints nothing.
	Out io.Writer
	// APIListener, TunnelListener and AppListener replace the configured addresses.
	APIListener, TunnelListener, AppListener net.Listener
	// Replica names this process among the hub's; empty is the host's name.
	Replica string
	// SyncPoll overrides how often desired state is read without a wake-up.
	SyncPoll time.Duration
}

// Hub is one replica.
type Hub struct {
	cfg   Config
	opts  Options
	log   *slog.Logger
	ready chan struct{}
}

// New checks the configuration. It starts nothing.
func New(cfg Config, o Options) (*Hub, error) {
	cfg = cfg.Complete()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("check settings: %w", err)
	}
	if o.Logger == nil {
		return nil, errors.New("hub needs a logger")
	}
	if o.Replica == "" {
		name, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("name this replica: %w", err)
		}
		o.Replica = name
	}
	o.Out = cmp.Or[io.Writer](o.Out, io.Discard)
	return &Hub{cfg: cfg, opts: o, log: o.Logger, ready: make(chan struct{})}, nil
}

// Ready is closed once both listeners are open and the database is migrated.
func (h *Hub) Ready() <-chan struct{} { return h.ready }

// Run is the life of the hub. It ends in order when ctx does.
func (h *Hub) Run(ctx context.Context) error {
	group := run.Group{Grace: h.cfg.DrainTimeout + 20*time.Second}
	wait, err := database(&group, h.cfg, h.log)
	if err != nil {
		return err
	}
	group.Add("hub", func(ctx context.Context) error {
		url, err := wait(ctx)
		if err != nil {
			return err
		}
		return h.serve(ctx, url)
	})
	h.log.InfoContext(ctx, "hub starts", slog.String(logkey.Replica, h.opts.Replica))
	return group.Run(ctx)
}
