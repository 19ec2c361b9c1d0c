package notifytest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
)

// Pipeline is the service of pipelines: each of its steps waits for the end of
// one workflow, and goes on when it hears of it.
type Pipeline struct {
	mu    sync.Mutex // guards steps
	steps map[string]*PipelineStep
}

// PipelineStep is a step of a pipeline.
type PipelineStep struct {
	// Status is RUNNING, COMPLETED or FAILED.
	Status string
	ETA    int
	Error  string
	// Ends counts how often it was told of the end while it waited.
	Ends int
}

// NewPipeline makes a service in which a step waits for each of the workflows.
func NewPipeline(workflowIDs ...string) *Pipeline {
	p := &Pipeline{steps: map[string]*PipelineStep{}}
	for _, id := range workflowIDs {
		p.steps[id] = &PipelineStep{Status: "RUNNING"}
	}
	return p
}

// Step is the step that waits, or waited, for the workflow.
func (p *Pipeline) Step(workflowID string) PipelineStep {
	p.mu.Lock()
	defer p.mu.Unlock()
	return *p.steps[workflowID]
}

// ServeHTTP is its route for messages.
func (p *Pipeline) ServeHTTP(w http.ResponseWriter, r *http.Request) { serve(w, r, p.Handle) }

// Handle takes one message. It refuses nothing: what it cannot read is no
// event for it. A test wants to know of that, so it is an error here.
func (p *Pipeline) Handle(body []byte) error {
	var e struct {
		Type     string `json:"type"`
		Metadata struct {
			WorkflowID string `json:"workflow_id"`
		} `json:"notification_metadata"`
		Payload *payload `json:"payload"`
	}
	if err := json.Unmarshal(body, &e); err != nil {
		return fmt.Errorf("read event: %w", err)
	}
	if e.Payload == nil || e.Payload.Content == nil {
		return errors.New("event has no payload.content")
	}
	id := e.Payload.WorkflowID
	if id == "" {
		id = e.Metadata.WorkflowID
	}
	if id == "" {
		return errors.New("event has no workflow_id, cannot route")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	step := p.steps[id]
	switch {
	case step == nil:
		return fmt.Errorf("no step awaiting event for workflow_id=%s", id)
	case e.Type != "notification":
		return fmt.Errorf("event of type %q is none that a step knows", e.Type)
	case step.Status != "RUNNING":
		return fmt.Errorf("step of workflow %s was over at %s", id, e.Payload.Event)
	}
	return step.hear(e.Payload)
}

func (s *PipelineStep) hear(p *payload) error {
	if p.Event == "eta" {
		minutes, err := strconv.Atoi(text(p.Content.Message))
		if err != nil {
			return fmt.Errorf("eta of %q", text(p.Content.Message))
		}
		s.ETA = minutes
		return nil
	}
	if !slices.Contains([]string{"results", "deploy_model", "deployment_status"}, p.Event) {
		return nil
	}
	switch status := text(p.Content.Status); status {
	case "COMPLETED":
		s.Status, s.Ends = status, s.Ends+1
	case "FAILED":
		s.Status, s.Error, s.Ends = status, text(p.Content.Message), s.Ends+1
	}
	return nil
}
