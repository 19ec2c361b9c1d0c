package enginetest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	durable "github.com/dapr/durabletask-go/workflow"

	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

// The versions of the functions that a worker can have.
const (
	Old = "old"
	New = "new"
)

// Input is every workflow's.
type Input struct {
	// N is how many activities, rounds or milliseconds, as the workflow has it.
	N int `json:"n,omitempty"`
	// Steps are the activities of "steps".
	Steps []string `json:"steps,omitempty"`
	// Child is the instance of "parent"'s child, if it is to have an id of its own.
	Child string `json:"child,omitempty"`
	// Seen are the events of the rounds before.
	Seen []string `json:"seen,omitempty"`
}

// Register adds the suite's functions to a registry, in one of their versions.
func Register(r *durable.Registry, version, socket string) error {
	errs := []error{
		r.AddActivityN("step", asks(socket)),
		r.AddActivityN("nothing", func(durable.ActivityContext) (any, error) { return 1, nil }),
		r.AddWorkflowN("one", one),
		r.AddWorkflowN("steps", steps), r.AddWorkflowN("fan", fan), r.AddWorkflowN("retry", retry), r.AddWorkflowN("timer", timer),
		r.AddWorkflowN("event", event), r.AddWorkflowN("early", early), r.AddWorkflowN("timeout", timeout),
		r.AddWorkflowN("parent", parent), r.AddWorkflowN("rounds", rounds), r.AddWorkflowN("stale", stale),
		r.AddVersionedWorkflowN("evolving", "v1", version == Old, evolving("v1")),
	}
	if version == New {
		errs = append(errs,
			r.AddVersionedWorkflowN("evolving", "v2", true, evolving("v2")),
			r.AddWorkflowN("patched", patched(true)),
			r.AddWorkflowN("newcomer", steps),
		)
	} else {
		errs = append(errs, r.AddWorkflowN("patched", patched(false)))
	}
	return errors.Join(errs...)
}

// call runs one activity, which asks the Director.
func call(ctx *durable.WorkflowContext, step string, value any, opts ...durable.CallActivityOption) durable.Task {
	raw, err := json.Marshal(value)
	if err != nil {
		panic(err) // the suite's own values
	}
	return ctx.CallActivity("step", append(opts, durable.WithActivityInput(Call{Instance: ctx.ID(), Step: step, Value: raw}))...)
}

// asks is the activity.
func asks(socket string) durable.Activity {
	return func(ac durable.ActivityContext) (any, error) {
		var c Call
		if err := ac.GetInput(&c); err != nil {
			return nil, err
		}
		c.Pid, c.At = os.Getpid(), time.Now()
		reply, err := ask(ac.Context(), socket, c)
		switch {
		case err != nil:
			return nil, err
		case reply.Panic:
			panic("as the test wanted")
		case reply.Permanent:
			return nil, fmt.Errorf("step %s: %w", c.Step, workflow.Permanent(errors.New(reply.Error)))
		case reply.Error != "":
			return nil, errors.New(reply.Error)
		}
		return reply.Value, nil
	}
}

func ask(ctx context.Context, socket string, c Call) (reply Reply, err error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return reply, err
	}
	defer func() { _ = conn.Close() }()
	raw, err := json.Marshal(c)
	if err != nil {
		return reply, err
	}
	if _, err := conn.Write(append(raw, '\n')); err != nil {
		return reply, err
	}
	answer := make(chan error, 1)
	go func() {
		lines := bufio.NewScanner(conn)
		if !lines.Scan() {
			answer <- errors.New("the test is gone")
			return
		}
		answer <- json.Unmarshal(lines.Bytes(), &reply)
	}()
	select {
	case err := <-answer:
		return reply, err
	case <-ctx.Done():
		_, _ = fmt.Fprintln(conn, context.Cause(ctx))
		return reply, context.Cause(ctx)
	}
}

// steps runs activities one after the other, each with the result of the one
// before, and returns the last one's.
func steps(ctx *durable.WorkflowContext) (any, error) {
	var in Input
	if err := ctx.GetInput(&in); err != nil {
		return nil, err
	}
	var value any
	for _, step := range in.Steps {
		if err := call(ctx, step, value).Await(&value); err != nil {
			return nil, err
		}
	}
	return value, nil
}

// one runs one activity, which does nothing and asks nobody: for benchmarks.
func one(ctx *durable.WorkflowContext) (any, error) {
	return nil, ctx.CallActivity("nothing", durable.WithActivityInput(1)).Await(nil)
}

// fan runs N activities at once and returns all their results, in order.
func fan(ctx *durable.WorkflowContext) (any, error) {
	var in Input
	if err := ctx.GetInput(&in); err != nil {
		return nil, err
	}
	tasks, results := make([]durable.Task, in.N), make([]string, in.N)
	for i := range tasks {
		tasks[i] = call(ctx, fmt.Sprint("branch ", i), nil)
	}
	for i, task := range tasks {
		if err := task.Await(&results[i]); err != nil {
			return nil, err
		}
	}
	return results, nil
}

// retry tries one activity up to N times, with the default policy's judgement.
func retry(ctx *durable.WorkflowContext) (any, error) {
	var in Input
	if err := ctx.GetInput(&in); err != nil {
		return nil, err
	}
	policy := workflow.Retry()
	policy.MaxAttempts, policy.InitialRetryInterval = in.N, 100*time.Millisecond
	var value string
	err := call(ctx, "try", nil, durable.WithActivityRetryPolicy(policy)).Await(&value)
	return value, err
}

// timer waits N milliseconds between two activities.
func timer(ctx *durable.WorkflowContext) (any, error) {
	var in Input
	if err := ctx.GetInput(&in); err != nil {
		return nil, err
	}
	if err := call(ctx, "before", nil).Await(nil); err != nil {
		return nil, err
	}
	if err := ctx.CreateTimer(time.Duration(in.N) * time.Millisecond).Await(nil); err != nil {
		return nil, err
	}
	return nil, call(ctx, "after", nil).Await(nil)
}

// event waits for "go" and returns what came with it.
func event(ctx *durable.WorkflowContext) (any, error) {
	if err := call(ctx, "waits", nil).Await(nil); err != nil {
		return nil, err
	}
	var value any
	err := ctx.WaitForExternalEvent("go", -1).Await(&value)
	return value, err
}

// early runs an activity before it waits for N events of one name.
func early(ctx *durable.WorkflowContext) (any, error) {
	var in Input
	if err := ctx.GetInput(&in); err != nil {
		return nil, err
	}
	if err := call(ctx, "busy", nil).Await(nil); err != nil {
		return nil, err
	}
	values := make([]int, in.N)
	for i := range values {
		if err := ctx.WaitForExternalEvent("go", -1).Await(&values[i]); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// timeout waits N milliseconds for an event.
func timeout(ctx *durable.WorkflowContext) (any, error) {
	var in Input
	if err := ctx.GetInput(&in); err != nil {
		return nil, err
	}
	if err := ctx.WaitForExternalEvent("go", time.Duration(in.N)*time.Millisecond).Await(nil); err != nil {
		return "too late", nil //nolint:nilerr // that is what it is to find out
	}
	return "in time", nil
}

// parent runs "steps" as a child and returns its result, or its error as one.
func parent(ctx *durable.WorkflowContext) (any, error) {
	var in Input
	if err := ctx.GetInput(&in); err != nil {
		return nil, err
	}
	opts := []durable.ChildWorkflowOption{durable.WithChildWorkflowInput(Input{Steps: in.Steps})}
	if in.Child != "" {
		opts = append(opts, durable.WithChildWorkflowInstanceID(in.Child))
	}
	var value any
	if err := ctx.CallChildWorkflow("steps", opts...).Await(&value); err != nil {
		return "child: " + workflow.Reason(err), nil
	}
	return value, nil
}

// rounds begins anew N times, each time after one event of its own, and
// returns what all rounds saw.
func rounds(ctx *durable.WorkflowContext) (any, error) {
	var in Input
	if err := ctx.GetInput(&in); err != nil {
		return nil, err
	}
	if err := call(ctx, fmt.Sprint("round ", in.N), nil).Await(nil); err != nil {
		return nil, err
	}
	var seen string
	if err := ctx.WaitForExternalEvent("go", -1).Await(&seen); err != nil {
		return nil, err
	}
	in.Seen = append(in.Seen, seen)
	if in.N--; in.N == 0 {
		return in.Seen, nil
	}
	ctx.ContinueAsNew(in, durable.WithKeepUnprocessedEvents())
	return nil, nil
}

// stale begins anew while a timer of its first round is still to fire. In the
// second round that timer would be taken for the one of the same number.
func stale(ctx *durable.WorkflowContext) (any, error) {
	var in Input
	if err := ctx.GetInput(&in); err != nil {
		return nil, err
	}
	if in.N > 0 { // the first round
		ctx.CreateTimer(time.Duration(in.N) * time.Millisecond)
		if err := call(ctx, "first", nil).Await(nil); err != nil {
			return nil, err
		}
		ctx.ContinueAsNew(Input{})
		return nil, nil
	}
	began := ctx.CurrentTimeUTC()
	const long = 1500 * time.Millisecond
	if err := ctx.CreateTimer(long).Await(nil); err != nil {
		return nil, err
	}
	return ctx.CurrentTimeUTC().Sub(began) >= long, nil
}

// evolving returns the name of its version.
func evolving(version string) durable.Workflow {
	return func(ctx *durable.WorkflowContext) (any, error) {
		return version, call(ctx, "evolves", nil).Await(nil)
	}
}

// patched has got a step in its middle.
func patched(with bool) durable.Workflow {
	return func(ctx *durable.WorkflowContext) (any, error) {
		if err := call(ctx, "first", nil).Await(nil); err != nil {
			return nil, err
		}
		if with && ctx.IsPatched("more") {
			if err := call(ctx, "more", nil).Await(nil); err != nil {
				return nil, err
			}
		}
		return nil, call(ctx, "last", nil).Await(nil)
	}
}
