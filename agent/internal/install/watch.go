package install

import (
	"context"
	"fmt"
	"time"

	"github.com/budecosystem/budcluster/agent/internal/helm"
)

// agentReady judges the Deployment of the agent's newest release.
func (c *cluster) agentReady(ctx context.Context) (ready bool, why string, err error) {
	ctx, cancel := patience(ctx)
	defer cancel()
	history, err := c.helm.History(ctx, c.ref)
	if err != nil {
		return false, "", err
	}
	last, there := history.Latest()
	if !there {
		return false, "the agent's release was removed", nil
	}
	details, err := c.helm.Details(ctx, helm.NewKinds(c.clients.Discovery), c.ref, last.Revision)
	if err != nil {
		return false, "", err
	}
	for _, o := range details.Objects {
		if o.GetKind() != "Deployment" {
			continue
		}
		state, err := c.checker.Check(ctx, o)
		return state.Ready, state.Why, err
	}
	return false, "the agent's release has no deployment", nil
}

// undo takes back what this process did; what was there before is put back.
func (c *cluster) undo(ctx context.Context) ([]string, error) {
	if c.done.installed {
		return c.remove(ctx)
	}
	if c.done.upgraded > 0 {
		history, err := c.helm.History(ctx, c.ref)
		if err != nil {
			return nil, err
		}
		last, there := history.Latest()
		if !there || last.Revision == c.done.upgraded {
			return nil, nil
		}
		if last.Status.Pending() {
			if err := c.helm.Unlock(ctx, c.ref, last.Revision, "taken back"); err != nil {
				return nil, err
			}
		}
		labels := helm.Labels{ReleaseID: releaseID, Operation: fmt.Sprintf("undo-%d", c.now().UnixNano()/int64(time.Millisecond))}
		return nil, c.helm.Rollback(ctx, c.ref, c.done.upgraded, labels, hookTimeout)
	}
	if c.done.namespace {
		return c.dropNamespace(ctx)
	}
	return nil, nil
}
