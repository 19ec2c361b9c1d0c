package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/dapr/durabletask-go/api"
	"github.com/dapr/durabletask-go/api/protos"
	"github.com/dapr/durabletask-go/workflow"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/budecosystem/budcluster/internal/backoff"
	"github.com/budecosystem/budcluster/internal/logkey"
	"github.com/budecosystem/budcluster/internal/secret"
)

// DaprConfig is what the engine on Dapr needs.
type DaprConfig struct {
	// Address is where the sidecar's gRPC API is: localhost:50001, or a socket
	// such as unix:///run/dapr.sock. The sidecar is this pod's, so there is no
	// TLS on the way.
	Address string
	// Token is the sidecar's API token; empty if it asks for none.
	Token    secret.String
	Registry *workflow.Registry
	Log      *slog.Logger
	// Grace is how long Run waits for activities that were told to stop.
	Grace time.Duration
}

// maxMessage bounds what the sidecar sends at once: a turn comes with the
// whole history of its instance.
const maxMessage = 64 << 20

// dapr runs workflows by a sidecar.
type dapr struct {
	conn     *sidecar
	client   *workflow.Client
	registry *workflow.Registry
	log      *slog.Logger
	grace    time.Duration
	close    func() error
}

// NewDapr makes the engine that keeps its workflows with a Dapr sidecar. It
// connects when it must; the sidecar may come later than the hub.
func NewDapr(ctx context.Context, cfg DaprConfig) (*Engine, error) {
	if cfg.Address == "" || cfg.Registry == nil || cfg.Log == nil {
		return nil, errors.New("workflow engine on Dapr: it needs the sidecar's address, a registry and a logger")
	}
	conn, err := grpc.NewClient(cfg.Address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)), grpc.WithPerRPCCredentials(apiToken{cfg.Token}))
	if err != nil {
		return nil, fmt.Errorf("workflow engine on Dapr: address %q: %w", cfg.Address, err)
	}
	s := newSidecar(conn)
	return newEngine(&dapr{
		conn: s, client: workflow.NewClientWithLogger(s, newLogger(ctx, cfg.Log)), registry: cfg.Registry,
		log: cfg.Log, grace: cmp.Or(cfg.Grace, DefaultGrace), close: conn.Close,
	}), nil
}

// apiToken shows the sidecar its token.
type apiToken struct{ token secret.String }

// GetRequestMetadata is what goes with each call.
func (t apiToken) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	if t.token.Reveal() == "" {
		return nil, nil //nolint:nilnil // no metadata
	}
	return map[string]string{"dapr-api-token": t.token.Reveal()}, nil
}

// RequireTransportSecurity is false: the sidecar is in the same pod.
func (apiToken) RequireTransportSecurity() bool { return false }

// The pauses between tries to reach the sidecar.
const (
	reachFirst = 100 * time.Millisecond
	reachMost  = 5 * time.Second
)

func (d *dapr) run(ctx context.Context, ready func()) error {
	working, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	wait := backoff.New(reachFirst, reachMost)
	for {
		err := d.client.StartWorker(working, d.registry)
		if err == nil {
			break
		}
		pause := wait.Next()
		d.log.WarnContext(ctx, "Dapr's sidecar cannot be reached", slog.Any(logkey.Error, err), slog.Duration(logkey.RetryAfter, pause))
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return d.close()
		case <-timer.C:
		}
	}
	ready()
	<-ctx.Done()
	idle := d.conn.stop()
	stop(ErrStopping)
	timer := time.NewTimer(d.grace)
	defer timer.Stop()
	select {
	case <-idle:
	case <-timer.C:
		d.log.WarnContext(ctx, "activities do not stop; Dapr gives them to another replica", slog.Int(logkey.Count, d.conn.count()))
	}
	d.conn.hangUp()
	return d.close()
}

// start looks first: Dapr would start an instance that has ended once more.
func (d *dapr) start(ctx context.Context, name, id string, input []byte) error {
	if _, err := d.status(ctx, id); !errors.Is(err, ErrNotFound) {
		return err
	}
	opts := []workflow.NewWorkflowOptions{workflow.WithInstanceID(id)}
	if input != nil {
		opts = append(opts, workflow.WithRawInput(text(input)))
	}
	err := patiently(ctx, passes, func() error {
		_, err := d.client.ScheduleWorkflow(ctx, name, opts...)
		return err
	})
	if err == nil {
		return nil
	}
	if _, there := d.status(ctx, id); there == nil { // somebody was faster, or the answer got lost
		return nil
	}
	return fromSidecar(err)
}

// raise looks first: not every sidecar says when there is no such instance.
func (d *dapr) raise(ctx context.Context, id, event string, data []byte) error {
	if s, err := d.status(ctx, id); err != nil || s.State.Ended() {
		return err
	}
	var opts []workflow.RaiseEventOptions
	if data != nil {
		opts = append(opts, workflow.WithRawEventData(text(data)))
	}
	return fromSidecar(patiently(ctx, passes, func() error { return d.client.RaiseEvent(ctx, id, event, opts...) }))
}

func (d *dapr) terminate(ctx context.Context, id string, reason []byte) error {
	s, err := d.status(ctx, id)
	if err != nil || s.State.Ended() {
		return err
	}
	return fromSidecar(patiently(ctx, passes, func() error {
		return d.client.TerminateWorkflow(ctx, id, workflow.WithRawOutput(text(reason)), workflow.WithRecursiveTerminate(true))
	}))
}

func (d *dapr) status(ctx context.Context, id string) (Status, error) {
	return look(ctx, func() (*workflow.WorkflowMetadata, error) {
		return d.client.FetchWorkflowMetadata(ctx, id, workflow.WithFetchPayloads(true))
	})
}

// look reads an instance.
func look(ctx context.Context, read func() (*workflow.WorkflowMetadata, error)) (Status, error) {
	var m *workflow.WorkflowMetadata
	err := patiently(ctx, passes, func() (err error) {
		m, err = read()
		return err
	})
	if err != nil {
		return Status{}, fromSidecar(err)
	}
	return statusOf((*protos.WorkflowMetadata)(m)), nil
}

func (d *dapr) wait(ctx context.Context, id string) (Status, error) {
	if s, err := d.status(ctx, id); err != nil || s.State.Ended() {
		return s, err // the library would ask for ever for one that is not there
	}
	return look(ctx, func() (*workflow.WorkflowMetadata, error) {
		return d.client.WaitForWorkflowCompletion(ctx, id, workflow.WithFetchPayloads(true))
	})
}

// purge waits for the children of an instance that has ended: a child tells its
// parent that it has ended before that is in the store.
func (d *dapr) purge(ctx context.Context, id string) error {
	again := func(err error) bool {
		if passes(err) {
			return true
		}
		if !errors.Is(err, ErrNotEnded) {
			return false
		}
		s, err := d.status(ctx, id)
		return err == nil && s.State.Ended()
	}
	return patiently(ctx, again, func() error {
		return fromSidecar(d.client.PurgeWorkflowState(ctx, id, workflow.WithRecursivePurge(true)))
	})
}

// fromSidecar tells errors apart by their text: that is all that comes over
// the wire.
func fromSidecar(err error) error {
	switch {
	case err == nil:
		return nil
	case strings.Contains(err.Error(), api.ErrInstanceNotFound.Error()):
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	case strings.Contains(err.Error(), api.ErrNotCompleted.Error()):
		return fmt.Errorf("%w: %w", ErrNotEnded, err)
	}
	return err
}
