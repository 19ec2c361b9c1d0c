package notifytest

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Main is the platform's main service, as far as it follows its workflows in
// the hub.
type Main struct {
	mu        sync.Mutex // guards all
	workflows map[string]*MainWorkflow
	clusters  map[string]*MainCluster
	said      []string
}

// MainWorkflow is the main service's own record of one piece of work.
type MainWorkflow struct {
	ID, Type, Cluster string
	// Steps are the ids that the hub answered when it was asked, with the status
	// that each was last said to have.
	Steps map[string]string
	ETA   int
	// Status is empty while it is under way.
	Status string
}

// MainCluster is the main service's record of a cluster.
type MainCluster struct {
	Name, HubID, Status              string
	Nodes, AvailableNodes            int
	CPUWorkers, GPUWorkers, HPUTotal int
}

// NewMain makes a main service that knows nothing yet.
func NewMain() *Main {
	return &Main{workflows: map[string]*MainWorkflow{}, clusters: map[string]*MainCluster{}}
}

// Asked is that the main service asked the hub for work.
func (m *Main) Asked(w MainWorkflow, steps ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w.Steps = map[string]string{}
	for _, s := range steps {
		w.Steps[s] = ""
	}
	m.workflows[w.ID] = &w
}

// Knows is that it has a cluster already.
func (m *Main) Knows(c MainCluster) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clusters[c.Name] = &c
}

// Workflow is what it knows of one.
func (m *Main) Workflow(id string) MainWorkflow {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := *m.workflows[id]
	w.Steps = maps.Clone(w.Steps)
	return w
}

// Cluster is what it knows of one; nil when nothing.
func (m *Main) Cluster(name string) *MainCluster {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.clusters[name]; c != nil {
		found := *c
		return &found
	}
	return nil
}

// Said reports whether a message came of this type, event and status, parted by
// blanks.
func (m *Main) Said(what string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Contains(m.said, what)
}

// ServeHTTP is its route for messages.
func (m *Main) ServeHTTP(w http.ResponseWriter, r *http.Request) { serve(w, r, m.Handle) }

// Handle takes one message. An error is what would be an exception there.
func (m *Main) Handle(body []byte) error {
	r, err := read(body)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p := r.Payload
	m.said = append(m.said, p.Type+" "+p.Event+" "+text(p.Content.Status))
	if p.Category != "internal" {
		return nil
	}
	if p.Event == "eta" {
		return m.eta(p)
	}
	switch p.Type {
	case "register_cluster":
		return m.follow(p, m.registered)
	case "delete_cluster":
		return m.follow(p, m.deleted)
	case "cluster-status-update":
		if p.Event == "results" {
			return m.status(p)
		}
	}
	return nil
}

// eta needs minutes as a number, and a type that it knows.
func (m *Main) eta(p *payload) error {
	minutes, err := strconv.Atoi(text(p.Content.Message))
	if err != nil {
		return fmt.Errorf("invalid ETA value received: %q", text(p.Content.Message))
	}
	if !slices.Contains([]string{"register_cluster", "delete_cluster"}, p.Type) {
		return fmt.Errorf("no workflow step mapping found for payload type %s", p.Type)
	}
	w := m.workflows[p.WorkflowID]
	if w == nil {
		return fmt.Errorf("error updating ETA for workflow %s: no workflow step found", p.WorkflowID)
	}
	w.ETA = minutes
	return nil
}

// follow copies what a step says, and takes any results for a success.
func (m *Main) follow(p *payload, results func(*payload, *MainWorkflow) error) error {
	w := m.workflows[p.WorkflowID]
	if w == nil {
		return fmt.Errorf("'NoneType' object has no attribute 'progress': no workflow %s", p.WorkflowID)
	}
	if _, ok := w.Steps[p.Event]; ok {
		w.Steps[p.Event] = text(p.Content.Status)
	}
	if p.Event != "results" {
		return nil
	}
	return results(p, w)
}

func (m *Main) registered(p *payload, w *MainWorkflow) error {
	if known := m.clusters[w.Cluster]; known != nil && known.Status != "deleted" {
		return fmt.Errorf("cluster %s already exists", w.Cluster)
	}
	c := &MainCluster{Name: w.Cluster, Status: "available"}
	if err := c.count(p.Content.Result); err != nil {
		return err
	}
	id, ok := p.Content.Result["id"].(string)
	if !ok {
		return errors.New("KeyError: 'id'")
	}
	if len(id) != 36 {
		return fmt.Errorf("badly formed hexadecimal UUID string: %q", id)
	}
	c.HubID = id
	m.clusters[w.Cluster], w.Status = c, "completed"
	return nil
}

// deleted reads nothing of the message but whose it is.
func (m *Main) deleted(_ *payload, w *MainWorkflow) error {
	c := m.clusters[w.Cluster]
	if c == nil || c.Status == "deleted" {
		return errors.New("'NoneType' object has no attribute 'id'")
	}
	c.Status, w.Status = "deleted", "completed"
	return nil
}

func (m *Main) status(p *payload) error {
	if p.Content.Result == nil {
		return errors.New("'NoneType' object is not subscriptable")
	}
	id, _ := p.Content.Result["cluster_id"].(string)
	status, ok := p.Content.Result["status"].(string)
	if !ok {
		return errors.New("KeyError: 'status'")
	}
	if !slices.Contains([]string{"available", "not_available", "error", "registering", "deleting", "deleted"}, status) {
		return fmt.Errorf("%q is not among the defined enum values", status)
	}
	for _, c := range m.clusters {
		if c.HubID != id || c.Status == "deleted" {
			continue
		}
		c.Status = status
		if info, ok := p.Content.Result["node_info"].(map[string]any); ok {
			return c.count(info)
		}
		return nil
	}
	return fmt.Errorf("404: cluster %s not found", id)
}

// count adds up what the nodes offer.
func (c *MainCluster) count(result map[string]any) error {
	if result == nil {
		return errors.New("'NoneType' object has no attribute 'get'")
	}
	nodes, _ := result["nodes"].([]any)
	sum := MainCluster{Name: c.Name, HubID: c.HubID, Status: c.Status, Nodes: len(nodes)}
	for _, n := range nodes {
		node, ok := n.(map[string]any)
		if !ok {
			return errors.New("a node is not an object")
		}
		if up, _ := node["status"].(bool); up {
			sum.AvailableNodes++
		}
		devices, _ := node["devices"].([]any)
		for _, d := range devices {
			device, ok := d.(map[string]any)
			if !ok {
				return errors.New("a device is not an object")
			}
			count, ok := device["available_count"].(float64)
			if _, there := device["available_count"]; there && !ok {
				return errors.New("unsupported operand type(s) for +=")
			}
			kind, _ := device["type"].(string)
			switch strings.ToLower(kind) {
			case "cpu", "cpu_high":
				sum.CPUWorkers += int(count)
			case "gpu", "cuda":
				sum.GPUWorkers += int(count)
			case "hpu":
				sum.HPUTotal += int(count)
			}
		}
	}
	*c = sum
	return nil
}
