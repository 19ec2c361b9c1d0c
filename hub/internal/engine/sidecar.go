package engine

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/dapr/durabletask-go/api/protos"
	"google.golang.org/grpc"
)

// sidecar is the connection to Dapr, with an eye on the work that goes over
// it, so that the hub can end in order. The library itself ends its stream
// first: the sidecar then gives activities that still run here to somebody
// else, and what they answer is lost.
//
//	working:   items ─► functions ─► answers
//	stop:      items are left to others; activities are told; answers still go,
//	           but not that an activity failed because it was told to stop
//	hang up:   the stream ends, and the sidecar gives the rest to others
type sidecar struct {
	grpc.ClientConnInterface

	mu       sync.Mutex // guards all below
	stopping bool
	running  int // activities
	idle     chan struct{}
	streams  map[*workStream]struct{}
}

// answerLimit is how long an answer may take to be accepted.
const answerLimit = 10 * time.Second

func newSidecar(conn grpc.ClientConnInterface) *sidecar {
	return &sidecar{ClientConnInterface: conn, idle: make(chan struct{}), streams: map[*workStream]struct{}{}}
}

// stop takes no more work. The channel is closed when no activity runs.
func (s *sidecar) stop() (idle <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping = true
	if s.running == 0 {
		close(s.idle)
	}
	return s.idle
}

func (s *sidecar) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running
}

func (s *sidecar) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}

// hangUp ends the streams.
func (s *sidecar) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.streams {
		w.end()
	}
}

func (s *sidecar) ended(w *workStream) {
	w.end()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, w)
}

// begin counts an activity, unless the hub stops.
func (s *sidecar) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopping {
		s.running++
	}
	return !s.stopping
}

func (s *sidecar) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running--
	if s.stopping && s.running == 0 {
		close(s.idle)
	}
}

// Invoke sends answers also when the hub stops.
func (s *sidecar) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	switch method {
	case protos.TaskHubSidecarService_CompleteActivityTask_FullMethodName:
		defer s.end()
		if answer, ok := args.(*protos.ActivityResponse); ok && answer.GetFailureDetails() != nil && s.isStopping() {
			return nil
		}
	case protos.TaskHubSidecarService_CompleteWorkflowTask_FullMethodName,
		protos.TaskHubSidecarService_CompleteOrchestratorTask_FullMethodName:
	default:
		return s.ClientConnInterface.Invoke(ctx, method, args, reply, opts...)
	}
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), answerLimit, fmt.Errorf("the sidecar did not take an answer in %s", answerLimit))
	defer cancel()
	return s.ClientConnInterface.Invoke(ctx, method, args, reply, opts...)
}

// NewStream opens a stream that hangUp ends, not the end of ctx.
func (s *sidecar) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	ctx, end := context.WithCancel(context.WithoutCancel(ctx))
	stream, err := s.ClientConnInterface.NewStream(ctx, desc, method, opts...)
	if err != nil {
		end()
		return nil, err
	}
	w := &workStream{ClientStream: stream, sidecar: s, end: end}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[w] = struct{}{}
	return w, nil
}

// workStream counts the activities that come on it.
type workStream struct {
	grpc.ClientStream

	sidecar *sidecar
	end     context.CancelFunc
}

// RecvMsg waits for the next item. Those that come while the hub stops are
// left lying: when the stream ends, the sidecar gives them to others.
func (w *workStream) RecvMsg(m any) error {
	for {
		if err := w.ClientStream.RecvMsg(m); err != nil {
			w.sidecar.ended(w)
			return err
		}
		item, ok := m.(*protos.WorkItem)
		if !ok {
			return io.ErrUnexpectedEOF
		}
		if item.GetActivityRequest() != nil && w.sidecar.begin() || item.GetActivityRequest() == nil && !w.sidecar.isStopping() {
			return nil
		}
	}
}
