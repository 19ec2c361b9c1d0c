package engine

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/dapr/durabletask-go/api/protos"
	"github.com/dapr/durabletask-go/workflow"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// errand carries one piece of work to the functions of a registry and brings
// their answer back. The library lets nobody into its registry but its own
// listener, and that talks to a gRPC connection; so an errand is one, without
// a wire: its stream brings one work item, and the call that completes it is
// the answer. Nothing is encoded, and each piece of work has a context of its
// own, which over a real connection all would share.
type errand struct {
	item     *protos.WorkItem
	answer   chan any // *protos.WorkflowResponse or *protos.ActivityResponse; of size 1
	answered func()   // called before the answer is sent
}

var _ grpc.ClientConnInterface = (*errand)(nil)

// send begins an errand. ctx is the one that an activity sees; its end makes
// the answer neither come sooner nor fail to come.
func send(ctx context.Context, r *workflow.Registry, item *protos.WorkItem, answered func()) (*errand, error) {
	e := &errand{item: item, answer: make(chan any, 1), answered: answered}
	if err := workflow.NewClientWithLogger(e, silent{}).StartWorker(ctx, r); err != nil {
		return nil, fmt.Errorf("hand work to its function: %w", err)
	}
	return e, nil
}

// Invoke is the listener's greeting, its sign of life, or an answer.
func (e *errand) Invoke(_ context.Context, method string, args, _ any, _ ...grpc.CallOption) error {
	switch method {
	case protos.TaskHubSidecarService_Hello_FullMethodName:
		return nil
	case protos.TaskHubSidecarService_CompleteWorkflowTask_FullMethodName,
		protos.TaskHubSidecarService_CompleteOrchestratorTask_FullMethodName,
		protos.TaskHubSidecarService_CompleteActivityTask_FullMethodName:
		e.answered()
		e.answer <- args
		return nil
	}
	return status.Errorf(codes.Unimplemented, "%s is not for a listener", method)
}

// NewStream is the listener asking for work.
func (e *errand) NewStream(ctx context.Context, _ *grpc.StreamDesc, method string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	if method != protos.TaskHubSidecarService_GetWorkItems_FullMethodName {
		return nil, status.Errorf(codes.Unimplemented, "%s is not for a listener", method)
	}
	items := make(chan *protos.WorkItem, 1)
	items <- e.item
	return &errandStream{context: ctx, items: items}, nil
}

// errandStream brings one item, and then nothing until its context ends.
type errandStream struct {
	context context.Context //nolint:containedctx // grpc.ClientStream has a method that returns it
	items   chan *protos.WorkItem
}

var errOneItem = errors.New("an errand carries work items only")

func (s *errandStream) Header() (metadata.MD, error) { return metadata.MD{}, nil }
func (s *errandStream) Trailer() metadata.MD         { return metadata.MD{} }
func (s *errandStream) CloseSend() error             { return nil }
func (s *errandStream) Context() context.Context     { return s.context }
func (s *errandStream) SendMsg(any) error            { return nil }

func (s *errandStream) RecvMsg(m any) error {
	into, ok := m.(*protos.WorkItem)
	if !ok {
		return errOneItem
	}
	select {
	case item := <-s.items:
		into.Request = item.GetRequest()
		return nil
	case <-s.context.Done():
		return io.EOF
	}
}
