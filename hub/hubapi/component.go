package hubapi

import (
	"context"
	"net/http"
)

// Component is an entry of the catalogue of what a cluster needs beside
// Kubernetes to serve models.
type Component struct {
	Name        string   `json:"name"`
	Title       string   `json:"title"`
	Description string   `json:"description"`
	Version     string   `json:"version" doc:"Of the chart that the catalogue pins."`
	Digest      string   `json:"digest,omitempty" doc:"Of that chart; absent when nobody could say it: the hub keeps that of the first download."`
	Source      string   `json:"source,omitempty" doc:"Where the chart is; absent when it has to be uploaded."`
	Wanted      string   `json:"wanted" doc:"What holds for a cluster that does not say: always, auto (when the facts ask for it) or onRequest."`
	Required    bool     `json:"required" doc:"A registration fails with it."`
	Requires    []string `json:"requires,omitempty"`
}

// ClusterComponent is how one cluster stands with a component.
type ClusterComponent struct {
	Name      string `json:"name"`
	Title     string `json:"title"`
	Wanted    string `json:"wanted" doc:"The cluster's own wish: auto, yes or no."`
	Action    string `json:"action" doc:"What a plan made now says: Install, Upgrade, Configure, Keep, Adopt, Skip, Remove, Blocked or Unknown."`
	Why       string `json:"why" doc:"The reasons as one sentence."`
	Present   bool   `json:"present" doc:"It is in the cluster."`
	Owned     bool   `json:"owned" doc:"This hub put it there."`
	Version   string `json:"version,omitempty" doc:"The one in the cluster, where it is known."`
	Available string `json:"available,omitempty" doc:"The catalogue's, where another one is in the cluster."`
	Health    string `json:"health,omitempty" doc:"Ready, Progressing, Failed, Removing or Unknown; absent when it is not present."`
	Message   string `json:"message,omitempty" doc:"Why the health is as it is."`
	Release   string `json:"release,omitempty"`
	Namespace string `json:"namespace,omitempty"`
}

// ComponentWish is what a cluster's settings say of one component.
type ComponentWish struct {
	Wanted  string         `json:"wanted,omitempty" doc:"auto, yes or no." enum:"auto,yes,no"`
	Version string         `json:"version,omitempty" doc:"Instead of the catalogue's."`
	Digest  string         `json:"digest,omitempty" doc:"Of that version's chart."`
	Values  map[string]any `json:"values,omitempty" doc:"Merged over all others. Whoever may read the cluster may read them: no secret belongs here."`
}

// RolloutRequest is the upgrade of one component in many clusters, in waves.
type RolloutRequest struct {
	Clusters []string `json:"clusters" doc:"Names or ids, in the order in which they take part." minItems:"1"`
	Version  string   `json:"version,omitempty" doc:"Instead of the catalogue's."`
	Digest   string   `json:"digest,omitempty" doc:"Of that version's chart."`
	Size     int      `json:"size,omitempty" doc:"Clusters worked on at a time; 1 when absent." minimum:"0"`
	Canary   int      `json:"canary,omitempty" doc:"Clusters of the first wave." minimum:"0"`
	Tolerate int      `json:"tolerate,omitempty" doc:"Failures that do not stop it." minimum:"0"`
}

// Components lists the catalogue, in the order in which it is installed.
func (c *Client) Components(ctx context.Context) (List[Component], error) {
	var out List[Component]
	_, err := c.do(ctx, request{method: http.MethodGet, path: []string{"components"}}, &out)
	return out, err
}

// ClusterComponents says how a cluster stands with each component.
func (c *Client) ClusterComponents(ctx context.Context, cluster string) (List[ClusterComponent], error) {
	var out List[ClusterComponent]
	_, err := c.do(ctx, request{method: http.MethodGet, path: []string{"clusters", cluster, "components"}}, &out)
	return out, err
}

// InstallComponent begins to install a component and what it requires.
func (c *Client) InstallComponent(ctx context.Context, cluster, name string, w ComponentWish) (Workflow, error) {
	return c.workflow(ctx, request{method: http.MethodPost, path: []string{"clusters", cluster, "components", name, "install"}, body: w})
}

// UpgradeComponent begins to upgrade a component that the hub installed.
func (c *Client) UpgradeComponent(ctx context.Context, cluster, name string, w ComponentWish) (Workflow, error) {
	return c.workflow(ctx, request{method: http.MethodPost, path: []string{"clusters", cluster, "components", name, "upgrade"}, body: w})
}

// RemoveComponent begins to remove a component that the hub installed.
func (c *Client) RemoveComponent(ctx context.Context, cluster, name string) (Workflow, error) {
	return c.workflow(ctx, request{method: http.MethodPost, path: []string{"clusters", cluster, "components", name, "remove"}})
}

// Rollout begins to upgrade a component in many clusters.
func (c *Client) Rollout(ctx context.Context, name string, r RolloutRequest) (Workflow, error) {
	return c.workflow(ctx, request{method: http.MethodPost, path: []string{"components", name, "rollout"}, body: r})
}
