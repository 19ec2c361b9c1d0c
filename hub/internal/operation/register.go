package operation

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/component"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/facts"
)

// Register is a cluster that is to be ready for models.
type Register struct {
	Name       string
	Labels     map[string]string
	IngressURL string
	// Components are the cluster's own wishes.
	Components map[string]component.Wish
	// Existing registers a cluster that is in the register already.
	Existing bool
	// Installs: the hub itself installs the agent, and says how far it is by the
	// cluster's degradations (Installing, NotInstalled). Such an agent goes again
	// when the registration fails.
	Installs bool
	// Reply is whom to tell, in notify's form.
	Reply   json.RawMessage
	RetryOf uuid.UUID
}

// registerInput is the input of the workflow.
type registerInput struct {
	Name       string                    `json:"name"`
	Labels     map[string]string         `json:"labels,omitempty"`
	IngressURL string                    `json:"ingressURL,omitempty"`
	Components map[string]component.Wish `json:"components,omitempty"`
	Installs   bool                      `json:"installs,omitempty"`
}

// The reasons of degradations of a cluster whose agent the hub installs. The
// agent's own take their place when it connects.
const (
	Installing   = "AgentInstalling"
	NotInstalled = "AgentNotInstalled"
)

// InstallerLost is why a registration ends whose hub was killed while it
// installed the agent, if the agent does not come by itself.
const InstallerLost = "InstallerLost"

// silence is how long nobody may say that he installs the agent before it is
// given up: the installer outlives its hub and ends what it began, its agent has
// an image to pull, and to find a hub again.
const silence = 5 * time.Minute

// Register enters the cluster and begins to make it ready, in one transaction.
// Its agent may be there or come later; the workflow waits for it.
func (s *Service) Register(ctx context.Context, actor string, req Register) (w *workflow.Workflow, c *cluster.Cluster, err error) {
	for _, name := range slices.Sorted(maps.Keys(req.Components)) {
		if err := req.Components[name].Check("components." + name); err != nil {
			return nil, nil, err //nolint:wrapcheck // a sentence already
		}
	}
	err = s.cfg.Store.InTx(ctx, func(ctx context.Context) error {
		if c, err = s.enter(ctx, actor, req); err != nil {
			return err
		}
		w, err = s.cfg.Workflows.Start(ctx, actor, workflow.Request{
			Kind: workflow.RegisterCluster, ClusterID: c.ID, ClusterName: c.Name, Exclusive: true, Reply: req.Reply, RetryOf: req.RetryOf,
			Input: registerInput{Name: c.Name, Labels: req.Labels, IngressURL: req.IngressURL, Components: req.Components, Installs: req.Installs},
			Steps: s.registerSteps(),
		})
		if err != nil {
			return err //nolint:wrapcheck // a sentence already
		}
		if !req.Existing { // first, so that it is undone last
			if err := s.cfg.Workflows.RecordEffect(ctx, w.ID, workflow.Effect{Kind: workflow.EffectCluster, Name: c.Name, ClusterID: c.ID}); err != nil {
				return err //nolint:wrapcheck // a sentence already
			}
		}
		if c, err = s.own(ctx, w, c, req); err != nil || !req.Installs {
			return err
		}
		if err := s.beginInstalling(ctx, c); err != nil || c.JoinedAt != nil { // one that is there is not this run's
			return err
		}
		return s.cfg.Workflows.RecordEffect(ctx, w.ID, workflow.Effect{Kind: workflow.EffectAgent, Name: c.Name, ClusterID: c.ID}) //nolint:wrapcheck // a sentence already
	})
	return w, c, err
}

// own gives the cluster its own settings.
func (s *Service) own(ctx context.Context, w *workflow.Workflow, c *cluster.Cluster, req Register) (_ *cluster.Cluster, err error) {
	if req.IngressURL != "" {
		if c, err = s.setIngressURL(ctx, w, c, req.IngressURL); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(req.Components)) {
		if err := s.setWish(ctx, w, name, req.Components[name]); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// beginInstalling makes sure that nothing is read into it that an earlier
// installation said.
func (s *Service) beginInstalling(ctx context.Context, c *cluster.Cluster) error {
	now := s.cfg.Now()
	if c.State(now) != cluster.StateConnected {
		begun := cluster.Degradation{Reason: Installing, Message: "the kubeconfig is good and the cluster answers", Since: now}
		if err := s.cfg.Clusters.SetDegraded(ctx, c.ID, []cluster.Degradation{begun}); err != nil {
			return err //nolint:wrapcheck // a sentence already
		}
	}
	return s.cfg.Clusters.SetInstalling(ctx, c.ID, true) //nolint:wrapcheck // a sentence already
}

func (s *Service) enter(ctx context.Context, actor string, req Register) (*cluster.Cluster, error) {
	if req.Existing {
		return s.cfg.Clusters.Get(ctx, req.Name) //nolint:wrapcheck // a sentence already
	}
	return s.cfg.Clusters.Create(ctx, actor, req.Name, req.Labels) //nolint:wrapcheck // a sentence already
}

// registerSteps are the steps of a registration: every component of the
// catalogue has one, and those that are not needed are skipped with the reason.
func (s *Service) registerSteps() []workflow.Step {
	steps := []workflow.Step{
		{Name: stepConnect, Title: "Waiting for the agent", Milestone: milestoneConnect, Typical: time.Minute},
		{Name: stepPlatform, Title: "Determining the platform", Milestone: milestonePlatform, Typical: 5 * time.Second},
		{Name: stepUnique, Title: "Checking for duplicates", Milestone: milestoneUnique, Typical: time.Second},
	}
	for i, entry := range s.cfg.Equipment.Catalogue().Components() {
		steps = append(steps, componentStep(entry, milestoneConfigure))
		if i == 0 { // feature discovery: by its labels the rest is chosen
			steps = append(steps, workflow.Step{Name: stepAccelerators, Title: "Looking for accelerators", Milestone: milestoneConfigure, Typical: 10 * time.Second})
		}
	}
	return append(steps, workflow.Step{Name: stepInventory, Title: "Reading the inventory", Milestone: milestoneInventory, Typical: 5 * time.Second})
}

// componentStep is the step that installs a component. As a rule it takes a
// tenth of what it may.
func componentStep(entry *component.Component, milestone string) workflow.Step {
	return workflow.Step{
		Name: stepComponent + entry.Name, Title: "Installing " + entry.Title, Milestone: milestone, Release: entry.Release,
		Typical: time.Duration(entry.Timeout) / 10,
	}
}

// connect waits for the agent.
func (s *Service) connect(ctx context.Context, t *workflow.Turn) (workflow.Outcome, error) {
	c, err := s.cfg.Clusters.Get(ctx, t.Workflow.ClusterID.String())
	if err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // a sentence already
	}
	in, err := input[registerInput](t.Workflow)
	if err != nil {
		return workflow.Outcome{}, err
	}
	switch state := c.State(s.cfg.Now()); {
	case state == cluster.StateConnected:
		return workflow.Completed("agent " + c.AgentVersion + " is connected"), nil
	case state == cluster.StateRevoked, state == cluster.StateRetired:
		return workflow.Failed(string(state), fmt.Sprintf("cluster %s is %s; give it a new join token, then register it again", c.Name, strings.ToLower(string(state)))), nil
	case in.Installs:
		return s.installing(c), nil
	case state == cluster.StatePending:
		return workflow.Waiting(fmt.Sprintf("install the agent with the command that `budcluster token create %s` shows", c.Name), time.Time{}, "cluster"), nil
	default:
		return workflow.Waiting(lastSeen(c), time.Time{}, "cluster"), nil
	}
}

// installing is how far the installation of the agent is. The kubeconfig was in
// the memory of one process: when that is gone the agent comes by itself, or
// nobody can bring it any more.
func (s *Service) installing(c *cluster.Cluster) workflow.Outcome {
	var message strings.Builder
	message.WriteString("the hub installs the agent")
	for _, d := range c.Degraded {
		switch d.Reason {
		case NotInstalled:
			return workflow.Failed(NotInstalled, d.Message)
		case Installing:
			message.WriteString(": " + d.Message)
		}
	}
	if c.InstallingAt == nil { // it is there, or was once
		return workflow.Waiting(message.String(), time.Time{}, "cluster")
	}
	heard := *c.InstallingAt
	if s.began.After(heard) { // until then there may have been no hub to connect to
		heard = s.began
	}
	if end := heard.Add(silence); s.cfg.Now().Before(end) {
		return workflow.Waiting(message.String(), end, "cluster")
	}
	return workflow.Failed(InstallerLost, fmt.Sprintf("the hub that installed the agent ended before that was done, the kubeconfig went with it, and no agent connected within %s; "+
		"upload the kubeconfig again, which takes over what was begun in the cluster", silence))
}

func lastSeen(c *cluster.Cluster) string {
	if c.LastSeen == nil {
		return "the agent is not connected"
	}
	return "the agent is not connected; it was last seen at " + c.LastSeen.UTC().Format(time.RFC3339)
}

// platform waits for what the agent says of the cluster, and for its answer to
// what was there before.
func (s *Service) platform(ctx context.Context, t *workflow.Turn) (workflow.Outcome, error) {
	c, err := s.cfg.Clusters.Get(ctx, t.Workflow.ClusterID.String())
	if err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // a sentence already
	}
	if c.Facts == nil {
		return workflow.Waiting("waiting for the agent to describe the cluster", time.Time{}, "cluster"), nil
	}
	presence, err := s.cfg.Clusters.Presence(ctx, c.ID)
	if err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // a sentence already
	}
	if presence.At == nil {
		return workflow.Waiting("waiting for the agent to look for what is there already", time.Time{}, "cluster"), nil
	}
	return workflow.Completed(fmt.Sprintf("%s %s (%s)", c.Facts.Platform, c.Facts.Version, c.Facts.Distribution)), nil
}

// unique is where a second entry for one cluster shows. The join refuses it, so
// that this one only says so.
func (s *Service) unique(ctx context.Context, t *workflow.Turn) (workflow.Outcome, error) {
	c, err := s.cfg.Clusters.Get(ctx, t.Workflow.ClusterID.String())
	if err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // a sentence already
	}
	return workflow.Completed("no other entry has the UID " + c.UID), nil
}

// accelerators waits until it is known which components the hardware asks for.
func (s *Service) accelerators(ctx context.Context, t *workflow.Turn) (workflow.Outcome, error) {
	items, err := s.cfg.Equipment.Plan(ctx, t.Workflow.ClusterID, nil)
	if err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // a sentence already
	}
	for _, item := range items {
		if item.Action == component.ActionUnknown {
			return workflow.Waiting(item.Title+": "+item.Why(), time.Time{}, "node", "cluster"), nil
		}
	}
	nodes, err := s.nodes(ctx, t.Workflow.ClusterID)
	if err != nil {
		return workflow.Outcome{}, err
	}
	found := map[string]int{}
	for _, n := range nodes {
		for _, d := range n.Devices {
			if d.Kind != facts.KindCPU {
				found[strings.TrimSpace(d.Vendor+" "+d.Model)]++
			}
		}
	}
	if len(found) == 0 {
		return workflow.Completed(noneYet(items)), nil
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(found)) {
		parts = append(parts, fmt.Sprintf("%d × %s", found[name], name))
	}
	return workflow.Completed(strings.Join(parts, ", ")), nil
}

// noneYet says why no node offers an accelerator: there is none, or its driver
// is one of the components to come.
func noneYet(items []component.Item) string {
	var parts []string
	for _, item := range items {
		for _, r := range item.Reasons {
			if r.Code == component.ReasonFactsAsk {
				parts = append(parts, item.Title+" is "+r.Message)
			}
		}
	}
	if len(parts) == 0 {
		return "no accelerators: models run on the CPUs"
	}
	return "none can be used yet: " + strings.Join(parts, "; ")
}

// inventory waits for a node that is ready and gives the result.
func (s *Service) inventory(ctx context.Context, t *workflow.Turn) (workflow.Outcome, error) {
	c, err := s.cfg.Clusters.Get(ctx, t.Workflow.ClusterID.String())
	if err != nil {
		return workflow.Outcome{}, err //nolint:wrapcheck // a sentence already
	}
	nodes, err := s.nodes(ctx, c.ID)
	if err != nil {
		return workflow.Outcome{}, err
	}
	ready := 0
	for _, n := range nodes {
		if n.Ready {
			ready++
		}
	}
	if ready == 0 {
		return workflow.Waiting(fmt.Sprintf("none of %d nodes is ready", len(nodes)), time.Time{}, "node"), nil
	}
	result, err := s.cfg.Describe(ctx, c, nodes)
	if err != nil {
		return workflow.Outcome{}, fmt.Errorf("describe cluster %s: %w", c.Name, err)
	}
	o := workflow.Completed(fmt.Sprintf("%d of %d nodes are ready", ready, len(nodes)))
	o.Result = result
	return o, nil
}
