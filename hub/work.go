package hub

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	durable "github.com/dapr/durabletask-go/workflow"

	"github.com/budecosystem/budcluster/hub/internal/dapr"
	"github.com/budecosystem/budcluster/hub/internal/engine"
	"github.com/budecosystem/budcluster/hub/internal/flow"
	"github.com/budecosystem/budcluster/hub/internal/notify"
	"github.com/budecosystem/budcluster/hub/internal/store"
	"github.com/budecosystem/budcluster/hub/internal/store/taskhub"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/secret"
)

// work adds what runs workflows and tells of them. Its end is called when the
// group has ended.
func (h *Hub) work(ctx context.Context, p *parts, st *store.Store, tasks taskhub.Config) (end func(), err error) {
	runner, err := flow.New(flow.Config{Record: p.workflows, Book: p.operation, Logger: h.component("flow")})
	if err != nil {
		return nil, err //nolint:wrapcheck // names what is missing
	}
	registry := durable.NewRegistry()
	if err := runner.Register(registry); err != nil { //nolint:contextcheck // the engine gives each activity its own
		return nil, fmt.Errorf("register workflows: %w", err)
	}
	e, closeEngine, err := h.engine(ctx, registry, tasks)
	if err != nil {
		return nil, err
	}
	events, stopEvents := p.wakes.Subscribe(store.ChannelEvents, "")
	wake, stopWake := p.wakes.Subscribe(store.ChannelWorkflows, "")
	dispatcher, err := workflow.NewDispatcher(workflow.DispatcherConfig{
		Store: st, Engine: flow.Door{Engine: e}, Feed: p.events, Logger: h.component("dispatcher"), Events: events, Wake: wake,
		GiveUp: h.giveUp(),
	})
	janitor, errJanitor := workflow.NewJanitor(workflow.JanitorConfig{
		Store: st, Logger: h.component("workflow"), Retention: h.cfg.Workflows.Retention,
	})
	if err := errors.Join(err, errJanitor); err != nil {
		closeEngine()
		return nil, err
	}
	p.group.Add("old workflows", janitor.Run)
	p.group.Add("workflows", e.Run)
	p.group.Add("dispatcher", dispatcher.Run)
	if err := h.messages(p, st); err != nil {
		closeEngine()
		return nil, err
	}
	return func() {
		stopEvents()
		stopWake()
		closeEngine()
	}, nil
}

// giveUp is after how long nothing more is expected of an engine that has a
// workflow. Dapr's may keep the work of a replica that died to itself; the
// embedded one has leases.
func (h *Hub) giveUp() time.Duration {
	if h.cfg.Workflows.Engine == EngineDapr {
		return 2 * flow.LookLimit
	}
	return 0
}

// engine makes the engine that the configuration names.
func (h *Hub) engine(ctx context.Context, registry *durable.Registry, cfg taskhub.Config) (*engine.Engine, func(), error) {
	log := h.component("engine")
	if h.cfg.Workflows.Engine == EngineDapr {
		token, err := readToken("dapr.apiTokenFile", h.cfg.Dapr.APITokenFile)
		if err != nil {
			return nil, nil, err
		}
		e, err := engine.NewDapr(ctx, engine.DaprConfig{Address: h.cfg.Dapr.GRPCAddress, Token: token, Registry: registry, Log: log})
		return e, func() {}, err //nolint:wrapcheck // a sentence already
	}
	tasks, err := taskhub.Open(ctx, cfg)
	if err != nil {
		return nil, nil, fmt.Errorf("open task hub: %w", err)
	}
	e, err := engine.NewEmbedded(engine.EmbeddedConfig{Hub: tasks, Registry: registry, Log: log})
	if err != nil {
		tasks.Close()
		return nil, nil, err //nolint:wrapcheck // a sentence already
	}
	return e, tasks.Close, nil
}

// messages adds what brings the outbox to the broker.
func (h *Hub) messages(p *parts, st *store.Store) error {
	if !h.cfg.Dapr.Enabled {
		return nil
	}
	token, err := readToken("dapr.apiTokenFile", h.cfg.Dapr.APITokenFile)
	if err != nil {
		return err
	}
	sidecar, err := dapr.New(dapr.Config{Address: h.cfg.Dapr.HTTPAddress, Token: token, Log: h.component("dapr")})
	if err != nil {
		return err //nolint:wrapcheck // a sentence already
	}
	wake, stop := p.wakes.Subscribe(store.ChannelOutbox, "")
	deliverer, err := notify.NewDeliverer(notify.DelivererConfig{
		Queue: st, Publisher: publisher{sidecar, h.cfg.Dapr.PubSub}, Logger: h.component("notify"), Metrics: p.registry, Wake: wake,
	})
	if err != nil {
		stop()
		return err //nolint:wrapcheck // names what is missing
	}
	p.group.Add("messages", func(ctx context.Context) error {
		defer sidecar.Close()
		defer stop()
		return deliverer.Run(ctx)
	})
	return nil
}

// publisher is a notify.Publisher on a sidecar.
type publisher struct {
	sidecar *dapr.Client
	pubsub  string
}

// Publish hands a message to the broker.
func (p publisher) Publish(ctx context.Context, m notify.Message) error {
	err := p.sidecar.Publish(ctx, dapr.Message{
		PubSub: p.pubsub, Topic: m.Topic, ID: m.ID.String(), Source: m.Source, Type: m.Type, Event: m.Body,
	})
	if refused, ok := errors.AsType[*dapr.Error](err); ok && refused.Status == http.StatusRequestEntityTooLarge {
		return workflow.Permanent(err) // or it holds up its stream for a day
	}
	return err //nolint:wrapcheck // a sentence already
}

// readToken reads a token's file; no file is no token.
func readToken(key, file string) (secret.String, error) {
	if file == "" {
		return secret.String{}, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return secret.String{}, fmt.Errorf("%s: read the token: %w", key, err)
	}
	return secret.New(strings.TrimSpace(string(text))), nil
}
