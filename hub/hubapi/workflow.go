package hubapi

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Workflow is one piece of long work: what was asked for, its steps, and its
// one result.
type Workflow struct {
	ID          string          `json:"id"`
	Kind        string          `json:"kind" doc:"register_cluster, delete_cluster, update_cluster_status, install_component, remove_component, upgrade_component or upgrade_agent."`
	ClusterID   string          `json:"clusterID,omitempty" doc:"Absent when it is about no single cluster."`
	Cluster     string          `json:"cluster,omitempty" doc:"The cluster's name."`
	Status      WorkflowStatus  `json:"status" doc:"Pending, Running, Undoing (failed or cancelled, and taking back what it made), Completed, Failed or Cancelled."`
	Reason      string          `json:"reason,omitempty" doc:"Why it failed or was cancelled; a CamelCase code."`
	Message     string          `json:"message,omitempty" doc:"The same as a sentence."`
	Input       json.RawMessage `json:"input,omitempty" doc:"What was asked for, without secrets; absent in lists."`
	Result      json.RawMessage `json:"result,omitempty" doc:"What came of it; absent until it is Completed."`
	ETASeconds  int64           `json:"etaSeconds,omitempty" doc:"How long the rest takes as a rule; absent when it is not known."`
	CreatedBy   string          `json:"createdBy"`
	CreatedAt   time.Time       `json:"createdAt"`
	CancelledAt *time.Time      `json:"cancelledAt,omitempty" doc:"When somebody asked for its end."`
	CancelledBy string          `json:"cancelledBy,omitempty"`
	FinishedAt  *time.Time      `json:"finishedAt,omitempty"`
	RetryOf     string          `json:"retryOf,omitempty" doc:"The workflow that this one tries again."`
	Steps       []WorkflowStep  `json:"steps,omitempty" doc:"Absent in lists."`
}

// WorkflowStep is one step of a workflow.
type WorkflowStep struct {
	Name           string     `json:"name"`
	Title          string     `json:"title"`
	Status         StepStatus `json:"status" doc:"Pending, Running, Waiting, Completed, Skipped, Failed or Cancelled."`
	Reason         string     `json:"reason,omitempty"`
	Message        string     `json:"message,omitempty" doc:"What it waits for, what came of it, or why it failed or was skipped."`
	Release        string     `json:"release,omitempty" doc:"The release whose progress is this step's."`
	StartedAt      *time.Time `json:"startedAt,omitempty"`
	FinishedAt     *time.Time `json:"finishedAt,omitempty"`
	WaitedMillis   int64      `json:"waitedMillis,omitempty" doc:"For how long the cluster had to be waited for."`
	OverheadMillis int64      `json:"overheadMillis,omitempty" doc:"What the step took beside that, once it is over."`
	Looks          int        `json:"looks,omitempty" doc:"How often it was looked at."`
}

// WorkflowStatus is where a workflow stands.
type WorkflowStatus string

// The statuses of a workflow.
const (
	WorkflowPending   WorkflowStatus = "Pending"
	WorkflowRunning   WorkflowStatus = "Running"
	WorkflowUndoing   WorkflowStatus = "Undoing"
	WorkflowCompleted WorkflowStatus = "Completed"
	WorkflowFailed    WorkflowStatus = "Failed"
	WorkflowCancelled WorkflowStatus = "Cancelled"
)

// Terminal reports whether a workflow of this status is over.
func (s WorkflowStatus) Terminal() bool {
	return s == WorkflowCompleted || s == WorkflowFailed || s == WorkflowCancelled
}

// StepStatus is where a step stands.
type StepStatus string

// The statuses of a step.
const (
	StepPending   StepStatus = "Pending"
	StepRunning   StepStatus = "Running"
	StepWaiting   StepStatus = "Waiting"
	StepCompleted StepStatus = "Completed"
	StepSkipped   StepStatus = "Skipped"
	StepFailed    StepStatus = "Failed"
	StepCancelled StepStatus = "Cancelled"
)

// Settled reports whether the step is over.
func (s StepStatus) Settled() bool {
	return s == StepCompleted || s == StepSkipped || s == StepFailed || s == StepCancelled
}

// RegisterRequest is a cluster that is to be ready for models.
type RegisterRequest struct {
	Name       string                   `json:"name" doc:"Name in the register; an RFC 1123 label." minLength:"1" maxLength:"63"`
	Labels     map[string]string        `json:"labels,omitempty"`
	IngressURL string                   `json:"ingressURL,omitempty" doc:"Where the cluster's models are reached."`
	Components map[string]ComponentWish `json:"components,omitempty" doc:"The cluster's own wishes, by component."`
	Existing   bool                     `json:"existing,omitempty" doc:"Register a cluster that is in the register already."`
	// Kubeconfig is secret.
	Kubeconfig string `json:"kubeconfig,omitempty" doc:"A kubeconfig file with which the hub installs the agent itself. Its current context is used once, and not kept. Absent: the agent is there, or somebody installs it."`
}

// RemoveRequest takes a cluster out of the fleet.
type RemoveRequest struct {
	Force bool `json:"force,omitempty" doc:"Take it out at once, without its agent; should that come back, it removes what is ours."`
}

// UpgradeAgentRequest replaces a cluster's agent.
type UpgradeAgentRequest struct {
	Digest string `json:"digest,omitempty" doc:"Of an agent's chart that the hub holds; absent is the agent of the hub's own version."`
}

// WorkflowQuery chooses workflows.
type WorkflowQuery struct {
	Cluster, Kind, Status string
	Active                bool
	PageOptions
}

func (q WorkflowQuery) query() url.Values {
	v := q.PageOptions.query()
	setString(v, "cluster", q.Cluster)
	setString(v, "kind", q.Kind)
	setString(v, "status", q.Status)
	if q.Active {
		v.Set("active", "true")
	}
	return v
}

// Workflows returns one page of workflows, newest first.
func (c *Client) Workflows(ctx context.Context, q WorkflowQuery) (List[Workflow], error) {
	var out List[Workflow]
	_, err := c.do(ctx, request{method: http.MethodGet, path: []string{"workflows"}, query: q.query()}, &out)
	return out, err
}

// AllWorkflows goes over all of them.
func (c *Client) AllWorkflows(ctx context.Context, q WorkflowQuery) iter.Seq2[Workflow, error] {
	return all(ctx, q.PageOptions, func(ctx context.Context, p PageOptions) (List[Workflow], error) {
		q.PageOptions = p
		return c.Workflows(ctx, q)
	})
}

// Workflow returns one with its steps.
func (c *Client) Workflow(ctx context.Context, id string) (Workflow, error) {
	return c.workflow(ctx, request{method: http.MethodGet, path: []string{"workflows", id}})
}

// CancelWorkflow asks for a workflow's end.
func (c *Client) CancelWorkflow(ctx context.Context, id string) (Workflow, error) {
	return c.workflow(ctx, request{method: http.MethodPost, path: []string{"workflows", id, "cancel"}})
}

// RetryWorkflow begins the work of a failed or cancelled workflow anew.
func (c *Client) RetryWorkflow(ctx context.Context, id string) (Workflow, error) {
	return c.workflow(ctx, request{method: http.MethodPost, path: []string{"workflows", id, "retry"}})
}

// Register begins to make a cluster ready for models.
func (c *Client) Register(ctx context.Context, r RegisterRequest) (Workflow, error) {
	return c.workflow(ctx, request{method: http.MethodPost, path: []string{"registrations"}, body: r})
}

// Remove begins to take a cluster out of the fleet.
func (c *Client) Remove(ctx context.Context, cluster string, r RemoveRequest) (Workflow, error) {
	return c.workflow(ctx, request{method: http.MethodPost, path: []string{"clusters", cluster, "remove"}, body: r})
}

// UpgradeAgent begins to replace a cluster's agent.
func (c *Client) UpgradeAgent(ctx context.Context, cluster string, r UpgradeAgentRequest) (Workflow, error) {
	return c.workflow(ctx, request{method: http.MethodPost, path: []string{"clusters", cluster, "agent", "upgrade"}, body: r})
}

func (c *Client) workflow(ctx context.Context, r request) (Workflow, error) {
	var out Workflow
	_, err := c.do(ctx, r, &out)
	return out, err
}

// WatchWorkflow gives a workflow as it is, and again each time that it changes,
// until it is over, ctx ends or the caller stops. It rides over a hub that is
// away for a while.
func (c *Client) WatchWorkflow(ctx context.Context, id string) iter.Seq2[Workflow, error] {
	return func(yield func(Workflow, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		wake := make(chan struct{}, 1)
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.wakeOn(ctx, EventQuery{FromNow: true}, id, wake)
		}()
		defer func() { cancel(); <-done }()
		var last string
		for {
			w, err := c.Workflow(ctx, id)
			switch {
			case IsUnavailable(err): // the hub is away; look again later
			case err != nil:
				yield(Workflow{}, err)
				return
			default:
				now := workflowPrint(w)
				if now != last && !yield(w, nil) || w.Status.Terminal() {
					return
				}
				last = now
			}
			if !c.idle(ctx, wake) {
				yield(Workflow{}, fmt.Errorf("watch workflow %s: %w", id, context.Cause(ctx)))
				return
			}
		}
	}
}

// workflowPrint is what of a workflow is worth showing again.
func workflowPrint(w Workflow) string {
	var text strings.Builder
	text.WriteString(string(w.Status) + w.Message)
	for _, s := range w.Steps {
		fmt.Fprintf(&text, "|%s %s", s.Status, s.Message)
	}
	return text.String()
}

// WorkflowFailedError says that a workflow ended without doing what was asked.
type WorkflowFailedError struct{ Workflow Workflow }

// Error gives the reason.
func (e *WorkflowFailedError) Error() string {
	w := e.Workflow
	text := fmt.Sprintf("workflow %s (%s) is %s", w.ID, w.Kind, w.Status)
	if w.Message != "" {
		text += ": " + w.Message
	}
	return text
}

// WaitWorkflow waits until the workflow is over, and tells seen, which may be
// nil, of each change on the way. One that failed or was cancelled is a
// *WorkflowFailedError.
func (c *Client) WaitWorkflow(ctx context.Context, id string, seen func(Workflow)) (Workflow, error) {
	var last Workflow
	for w, err := range c.WatchWorkflow(ctx, id) {
		if err != nil {
			return last, err
		}
		last = w
		if seen != nil {
			seen(w)
		}
	}
	if last.Status != WorkflowCompleted {
		return last, &WorkflowFailedError{Workflow: last}
	}
	return last, nil
}
