package operation

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/budecosystem/budcluster/hub/internal/flow"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

// The names of steps. Steps of components are stepComponent or stepRemove and
// the component's name.
const (
	stepConnect      = "connect"
	stepPlatform     = "platform"
	stepUnique       = "unique"
	stepAccelerators = "accelerators"
	stepInventory    = "inventory"
	stepReach        = "reach"
	stepReleases     = "releases"
	stepRetire       = "retire"
	stepStatus       = "status"
	stepSettings     = "settings"
	stepRollout      = "rollout"
	stepAgent        = "agent"
	stepComponent    = "component/"
	stepRemove       = "remove/"
)

// The milestones of the platform's contract.
const (
	milestonePlatform  = "determine_cluster_platform"
	milestoneUnique    = "check_duplicate_config"
	milestoneConnect   = "verify_cluster_connection"
	milestoneConfigure = "configure_cluster"
	milestoneInventory = "fetch_cluster_info"
	milestoneRemove    = "delete_namespace"
	milestoneStatus    = "update_cluster_status"
)

// How long steps may take where no catalogue says.
const (
	factsLimit  = 5 * time.Minute
	reachLimit  = 2 * time.Minute
	removeLimit = 30 * time.Minute
)

var _ flow.Book = (*Service)(nil)

// Step says how a step is carried out.
func (s *Service) Step(_ workflow.Kind, name string) (flow.Step, bool) {
	if component, ok := strings.CutPrefix(name, stepComponent); ok {
		return flow.Step{Limit: s.cfg.Equipment.Limit(component), Do: func(ctx context.Context, t *workflow.Turn) (workflow.Outcome, error) {
			return s.install(ctx, t, component)
		}}, true
	}
	if component, ok := strings.CutPrefix(name, stepRemove); ok {
		return flow.Step{Limit: removeLimit, Do: func(ctx context.Context, t *workflow.Turn) (workflow.Outcome, error) {
			return s.remove(ctx, t, component)
		}}, true
	}
	step, ok := map[string]flow.Step{
		stepConnect:      {Do: s.connect, Limit: s.cfg.JoinWithin},
		stepPlatform:     {Do: s.platform, Limit: factsLimit},
		stepUnique:       {Do: s.unique, Limit: factsLimit},
		stepAccelerators: {Do: s.accelerators, Limit: factsLimit},
		stepInventory:    {Do: s.inventory, Limit: factsLimit},
		stepReach:        {Do: s.reach, Limit: reachLimit},
		stepReleases:     {Do: s.removeReleases, Limit: removeLimit},
		stepRetire:       {Do: s.retire, Limit: removeLimit},
		stepStatus:       {Do: s.status, Limit: factsLimit},
		stepSettings:     {Do: s.settings, Limit: factsLimit},
		stepRollout:      {Do: s.rollout},
		stepAgent:        {Do: s.agent, Limit: agentLimit},
	}[name]
	return step, ok
}

// Undo says how an effect is taken back.
func (s *Service) Undo(kind workflow.EffectKind) (flow.Undo, bool) {
	undo, ok := map[workflow.EffectKind]flow.Undo{
		workflow.EffectRelease: {Do: s.undoRelease, Remedy: func(w *workflow.Workflow, e workflow.Effect) string {
			return fmt.Sprintf("`budcluster release delete %s --cluster %s`", e.Name, w.ClusterName)
		}},
		workflow.EffectChange:  {Do: s.undoChange},
		workflow.EffectSetting: {Do: s.undoSetting},
		workflow.EffectIngress: {Do: s.undoIngress},
		workflow.EffectCluster: {Do: s.undoCluster, Remedy: removeByForce},
		workflow.EffectAgent:   {Do: s.undoAgent, Remedy: removeByForce},
	}[kind]
	return undo, ok
}

// removeByForce takes a cluster out of the fleet also without its agent.
func removeByForce(w *workflow.Workflow, _ workflow.Effect) string {
	return fmt.Sprintf("`budcluster cluster remove %s --force`; should the agent come back, it removes what is ours, and then itself", w.ClusterName)
}
