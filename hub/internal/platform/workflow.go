package platform

import (
	"context"
	"errors"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

// scheduledWorkflow is the platform's WorkflowMetadataResponse.
type scheduledWorkflow struct {
	Object       string    `json:"object"`
	WorkflowID   uuid.UUID `json:"workflow_id"`
	WorkflowName string    `json:"workflow_name"`
	Steps        []step    `json:"steps"`
	Status       string    `json:"status"`
	// ETA is in minutes, always.
	ETA *int `json:"eta"`
}

type step struct {
	ID          string `json:"id"`
	Title       string `json:"title"`
	Description string `json:"description"`
}

// contractSteps are the steps that the platform shows, in its order.
func contractSteps(k workflow.Kind) []step {
	switch k {
	case workflow.RegisterCluster:
		return []step{
			{"determine_cluster_platform", "Determining cluster platform", "Find out which Kubernetes the cluster is"},
			{"check_duplicate_config", "Checking for duplicate cluster", "Make sure that the cluster is not registered already"},
			{"verify_cluster_connection", "Verifying cluster connection", "Wait for the agent in the cluster"},
			{"configure_cluster", "Configuring cluster", "Install what models need"},
			{"fetch_cluster_info", "Fetching cluster info", "Read nodes and devices"},
		}
	case workflow.RemoveCluster:
		return []step{{"delete_namespace", "Deleting Cluster", "Remove what was installed in the cluster"}}
	case workflow.UpdateStatus:
		return []step{{"update_cluster_status", "Updating cluster status", "Read the state of the nodes"}}
	default:
		return nil
	}
}

// scheduled tells which workflow began.
func scheduled(w *workflow.Workflow) answer {
	steps := []step{}
	has := func(id string) bool {
		return slices.ContainsFunc(w.Steps, func(s workflow.Step) bool { return s.Milestone == id })
	}
	for _, one := range contractSteps(w.Kind) {
		if has(one.ID) {
			steps = append(steps, one)
		}
	}
	minutes := max(int(math.Ceil(w.ETA.Minutes())), 1)
	return answer{http.StatusOK, scheduledWorkflow{
		Object: "workflow_metadata", WorkflowID: w.ID, WorkflowName: string(w.Kind), Steps: steps, Status: statusOf(w.Status), ETA: &minutes,
	}}
}

// statusOf is a status in the platform's words.
func statusOf(s workflow.Status) string {
	switch s {
	case workflow.StatusPending:
		return "PENDING"
	case workflow.StatusRunning, workflow.StatusUndoing:
		return "RUNNING"
	case workflow.StatusCompleted:
		return "COMPLETED"
	case workflow.StatusFailed:
		return "FAILED"
	case workflow.StatusCancelled:
		return "TERMINATED"
	}
	return "UNKNOWN"
}

// workflowStatus is GET /workflow/{workflow_id}/status.
func (s *Server) workflowStatus(r *http.Request) answer {
	id, bad := pathID(r, "workflow_id")
	if bad != nil {
		return *bad
	}
	w, err := s.cfg.Workflows.Get(r.Context(), id.String())
	if err != nil {
		return s.problem(r.Context(), nil, err)
	}
	return ok("ack", map[string]string{"status": statusOf(w.Status)})
}

// stopped is a workflow that was asked to end.
type stopped struct {
	id     uuid.UUID
	status workflow.Status
	// before is that it was over when it was asked.
	before bool
}

// stop asks a workflow to end and waits for that, as the platform does. It says
// what is so as soon as the wish is recorded and will come true.
func (s *Server) stop(r *http.Request) (stopped, *answer) {
	id, bad := pathID(r, "workflow_id")
	if bad != nil {
		return stopped{}, bad
	}
	w, err := s.cfg.Workflows.Cancel(r.Context(), Actor, id.String())
	if finished, is := errors.AsType[*workflow.FinishedError](err); is {
		return stopped{id, finished.Status, true}, nil
	}
	if err == nil {
		w, err = s.ended(r.Context(), w)
	}
	if err != nil {
		a := s.problem(r.Context(), nil, err)
		return stopped{}, &a
	}
	return stopped{id, w.Status, false}, nil
}

// says is the answer to the wish.
func (o stopped) says() answer {
	param := map[string]string{"workflow_id": o.id.String(), "status": statusOf(o.status)}
	switch {
	case o.before || o.status == workflow.StatusCompleted:
		return ok("The workflow is over already.", param)
	case !o.status.Terminal():
		return ok("The workflow is stopping; what it made is being removed.", param)
	}
	return ok("The workflow is stopped; what it made is removed.", param)
}

// stopWorkflow is DELETE /workflow/{workflow_id}/stop: 200 if that stopped it, 202
// if it is stopping or was over already.
func (s *Server) stopWorkflow(r *http.Request) answer {
	o, bad := s.stop(r)
	if bad != nil {
		return *bad
	}
	a := o.says()
	if o.before || o.status == workflow.StatusCompleted || !o.status.Terminal() {
		a.status = http.StatusAccepted
	}
	return a
}

// cancelWorkflow is POST /cluster/cancel/{workflow_id}. Its caller takes any
// status but 200 for a refusal, and a success for the promise that nothing is
// left: a workflow that succeeded is refused, one that is over otherwise is not.
func (s *Server) cancelWorkflow(r *http.Request) answer {
	o, bad := s.stop(r)
	switch {
	case bad != nil:
		return *bad
	case o.status == workflow.StatusCompleted && o.before:
		return failed(http.StatusConflict, "Workflow %s has completed and cannot be stopped; undo it by what is there for that, as removing the cluster.", o.id)
	case o.status == workflow.StatusCompleted:
		return failed(http.StatusConflict, "Workflow %s completed before it could be stopped; undo it by what is there for that, as removing the cluster.", o.id)
	}
	return o.says()
}

// ended waits for a workflow's end as long as the caller does. What it says
// last is that of the record.
func (s *Server) ended(ctx context.Context, w *workflow.Workflow) (*workflow.Workflow, error) {
	patience := time.NewTimer(s.cfg.Patience)
	defer patience.Stop()
	subject := ""
	if w.ClusterID != uuid.Nil {
		subject = w.ClusterID.String()
	}
	wake, cancel := s.cfg.Watch(subject)
	defer cancel()
	poll := time.NewTicker(time.Second) // a lost wake-up costs this
	defer poll.Stop()
	for {
		now, err := s.cfg.Workflows.Get(ctx, w.ID.String())
		if err != nil || now.Status.Terminal() {
			return now, err //nolint:wrapcheck // a sentence already
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-patience.C:
			return now, nil
		case <-wake:
		case <-poll.C:
		}
	}
}

// pauseWorkflow refuses: a registration that stands still would hold a cluster
// for ever.
func (s *Server) pauseWorkflow(r *http.Request) answer {
	id, bad := pathID(r, "workflow_id")
	if bad != nil {
		return *bad
	}
	w, err := s.cfg.Workflows.Get(r.Context(), id.String())
	if err != nil {
		return s.problem(r.Context(), nil, err)
	}
	return failed(http.StatusConflict, "Workflow %s is %s; workflows are neither paused nor resumed, stop it instead and restart it later.", id, strings.ToLower(string(w.Status)))
}

// restartWorkflow is POST /workflow/{workflow_id}/restart.
func (s *Server) restartWorkflow(r *http.Request) answer {
	id, bad := pathID(r, "workflow_id")
	if bad != nil {
		return *bad
	}
	w, err := s.cfg.Operations.Retry(r.Context(), Actor, id.String())
	if err != nil {
		return s.problem(r.Context(), nil, err)
	}
	return ok("The workflow was begun anew.", map[string]string{"workflow_id": w.ID.String(), "status": statusOf(w.Status)})
}

// renamed gives the fields of the rules the names that the platform has for
// them.
func renamed(err error) error {
	var all []error
	for _, e := range invalid.Of(err) {
		if e.Field == "ingressURL" {
			e = invalid.New("ingress_url", "%s", e.Message)
		}
		all = append(all, e)
	}
	if len(all) == 0 {
		return err
	}
	return errors.Join(all...)
}

func sorted(faults []fault) []fault {
	slices.SortFunc(faults, func(a, b fault) int { return strings.Compare(a.Msg, b.Msg) })
	return faults
}
