package hubapi

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/budecosystem/budcluster/internal/facts"
)

// Release is one chart wanted in one namespace of one cluster, and what became
// of it there.
type Release struct {
	ID         string        `json:"id"`
	Cluster    ClusterRef    `json:"cluster"`
	Name       string        `json:"name"`
	Namespace  string        `json:"namespace"`
	Generation int64         `json:"generation" doc:"Grows with each change of what is wanted; the ETag, too."`
	Digest     string        `json:"digest" doc:"Of what is wanted."`
	Spec       ReleaseSpec   `json:"spec"`
	Status     ReleaseStatus `json:"status"`
	CreatedAt  time.Time     `json:"createdAt"`
	UpdatedAt  time.Time     `json:"updatedAt" doc:"When what is wanted, or what is known of it, last changed at the hub."`
	// DeletedAt is set while a deleted release is being removed.
	DeletedAt *time.Time `json:"deletedAt,omitempty" doc:"Set while a deleted release is being removed from its cluster."`
}

// ReleaseSpec is what is wanted. Secret values are never shown.
type ReleaseSpec struct {
	Chart           ChartRef        `json:"chart"`
	Values          json.RawMessage `json:"values,omitempty" doc:"Values of the chart; an object."`
	CreateNamespace bool            `json:"createNamespace"`
	Timeout         string          `json:"timeout" doc:"For one Helm operation." example:"5m0s"`
	Remediation     string          `json:"remediation" doc:"What happens when an install or upgrade fails: keep, rollback or uninstall."`
	MaxAttempts     int             `json:"maxAttempts"`
	Drift           string          `json:"drift" doc:"What happens when others change an object of the release: correct, report or ignore."`
	Adoption        string          `json:"adoption" doc:"What happens when a Helm release of the name was there before: observe or takeOver."`
	Outputs         []Output        `json:"outputs,omitempty"`
	Leftovers       []Leftover      `json:"leftovers,omitempty" doc:"What the chart's uninstall leaves behind; removed after it, if it was not there before."`
	NodeMarks       NodeMarks       `json:"nodeMarks,omitzero" doc:"Labels and annotations that the chart's programs write on nodes; removed with the leftovers."`
}

// Leftover names objects that outlive the uninstall of their chart.
type Leftover = facts.Leftover

// NodeMarks are labels and annotations on nodes.
type NodeMarks = facts.NodeMarks

// ChartRef names a packaged chart by what it contains.
type ChartRef struct {
	Digest  string `json:"digest" doc:"sha256: and hex of the packed chart."`
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Output names a field of an object of the release to report in the status.
type Output struct {
	Name       string `json:"name" doc:"Key in status.outputs."`
	APIVersion string `json:"apiVersion" example:"v1"`
	Kind       string `json:"kind" doc:"Any kind but Secret." example:"Service"`
	Object     string `json:"object" doc:"The object's name."`
	JSONPath   string `json:"jsonPath" example:"{.spec.clusterIP}"`
}

// ReleaseStatus is what the agent last said.
type ReleaseStatus struct {
	// ObservedGeneration is the generation that the rest speaks of; 0 until
	// the agent said anything.
	ObservedGeneration int64             `json:"observedGeneration" doc:"The generation that the rest speaks of; 0 until the agent said anything."`
	Phase              Phase             `json:"phase" doc:"Pending, Installing, Upgrading, RollingBack, Progressing, Ready, Drifted, Adopted, Locked, Failed, Removing or Removed; a newer agent may know more."`
	Reason             string            `json:"reason,omitempty" doc:"CamelCase, for programs."`
	Message            string            `json:"message,omitempty"`
	Ready              int               `json:"ready" doc:"Objects of the release that are ready."`
	Total              int               `json:"total" doc:"Objects of the release that can be ready."`
	WaitingFor         string            `json:"waitingFor,omitempty"`
	ChartVersion       string            `json:"chartVersion,omitempty" doc:"What is installed."`
	AppVersion         string            `json:"appVersion,omitempty"`
	Revision           int               `json:"revision,omitempty" doc:"Helm's revision."`
	Owned              bool              `json:"owned" doc:"Whether we installed it, and so will remove it."`
	Drift              []Drift           `json:"drift,omitempty"`
	Outputs            map[string]string `json:"outputs,omitempty"`
	Attempts           int               `json:"attempts,omitempty"`
	Corrections        int64             `json:"corrections,omitempty" doc:"How often drift was corrected."`
	ChangedAt          *time.Time        `json:"changedAt,omitempty" doc:"When the phase last changed, by the agent's clock."`
	RetryAt            *time.Time        `json:"retryAt,omitempty" doc:"When the next attempt is due."`
}

// Drift is one field that is not as the chart has it.
type Drift struct {
	Object  string `json:"object"`
	Field   string `json:"field"`
	Manager string `json:"manager,omitempty" doc:"Who changed it."`
}

// Phase is where a release stands in its cluster.
type Phase string

// The phases of a release; a newer agent may know more.
const (
	PhasePending     Phase = "Pending"
	PhaseInstalling  Phase = "Installing"
	PhaseUpgrading   Phase = "Upgrading"
	PhaseRollingBack Phase = "RollingBack"
	PhaseProgressing Phase = "Progressing"
	PhaseReady       Phase = "Ready"
	PhaseDrifted     Phase = "Drifted"
	PhaseAdopted     Phase = "Adopted"
	PhaseLocked      Phase = "Locked"
	PhaseFailed      Phase = "Failed"
	PhaseRemoving    Phase = "Removing"
	PhaseRemoved     Phase = "Removed"
)

// Settled reports whether a release in this phase stays there until its spec,
// the cluster or a retry changes it.
func (p Phase) Settled() bool {
	switch p {
	case PhaseReady, PhaseDrifted, PhaseAdopted, PhaseFailed, PhaseRemoved:
		return true
	default:
		return false
	}
}

// Settled reports whether the agent is done, for now, with the generation that
// is wanted.
func (r *Release) Settled() bool {
	return r.Status.ObservedGeneration >= r.Generation && r.Status.Phase.Settled()
}

// ReleaseRequest is what to want. It replaces what was wanted before as a
// whole: values that are left out are gone. Only secret values that are left
// out stay as they are, since nobody can read them to send them again; an empty
// object takes them away.
type ReleaseRequest struct {
	Namespace string          `json:"namespace" doc:"Where the chart is installed; cannot be changed later."`
	Chart     ChartSource     `json:"chart"`
	Values    json.RawMessage `json:"values,omitempty" doc:"Values of the chart; an object. Everybody who may read the release may read them."`
	// SecretValues are merged over Values, sealed at rest and never shown.
	SecretValues    json.RawMessage `json:"secretValues,omitempty" doc:"Merged over values; an object. Sealed at rest and never shown. Left out, those that there are stay; an empty object takes them away."`
	CreateNamespace *bool           `json:"createNamespace,omitempty" doc:"True when absent."`
	Timeout         string          `json:"timeout,omitempty" doc:"For one Helm operation, 10s to 24h; 5m when absent." example:"5m"`
	Remediation     string          `json:"remediation,omitempty" doc:"What happens when an install or upgrade fails: keep, rollback (when absent) or uninstall."`
	MaxAttempts     int             `json:"maxAttempts,omitempty" doc:"1 to 100; 5 when absent."`
	Drift           string          `json:"drift,omitempty" doc:"What happens when others change an object of the release: correct (when absent), report or ignore."`
	Adoption        string          `json:"adoption,omitempty" doc:"What happens when a Helm release of the name was there before: observe (when absent) or takeOver."`
	Outputs         []Output        `json:"outputs,omitempty" doc:"Fields of objects to report in the status."`
	Leftovers       []Leftover      `json:"leftovers,omitempty" doc:"What the chart's uninstall leaves behind; removed after it, if it was not there before."`
	NodeMarks       NodeMarks       `json:"nodeMarks,omitzero" doc:"Labels and annotations that the chart's programs write on nodes; removed with the leftovers."`
}

// ChartSource says where the hub finds a chart: one of Digest, Path,
// Repository or OCI.
type ChartSource struct {
	Digest     string `json:"digest,omitempty" doc:"A chart that was pushed: sha256: and hex." example:"sha256:…"`
	Path       string `json:"path,omitempty" doc:"A folder or .tgz below the hub's chartsDir."`
	Repository string `json:"repository,omitempty" doc:"URL of a Helm repository; with name and version." example:"https://charts.example.com"`
	Name       string `json:"name,omitempty" doc:"The chart's name in the repository."`
	OCI        string `json:"oci,omitempty" doc:"A chart in an OCI registry; with version." example:"oci://registry.example.com/charts/app"`
	Version    string `json:"version,omitempty" doc:"Exact version; the newest stable one when absent (repositories only)."`
}

// ReleaseQuery chooses releases; the zero value is all of the fleet.
type ReleaseQuery struct {
	PageOptions
	Cluster string // name or id
	Phase   Phase
}

func (q ReleaseQuery) query() url.Values {
	v := q.PageOptions.query()
	setString(v, "phase", string(q.Phase))
	return v
}

// Releases gives one page of releases, by cluster and name.
func (c *Client) Releases(ctx context.Context, q ReleaseQuery) (List[Release], error) {
	var out List[Release]
	_, err := c.do(ctx, request{method: http.MethodGet, path: within(q.Cluster, "releases"), query: q.query()}, &out)
	return out, err
}

// AllReleases gives every release that the query chooses.
func (c *Client) AllReleases(ctx context.Context, q ReleaseQuery) iter.Seq2[Release, error] {
	return all(ctx, q.PageOptions, func(ctx context.Context, p PageOptions) (List[Release], error) {
		q.PageOptions = p
		return c.Releases(ctx, q)
	})
}

// Release gives one release.
func (c *Client) Release(ctx context.Context, cluster, name string) (Release, error) {
	var out Release
	_, err := c.do(ctx, request{method: http.MethodGet, path: []string{"clusters", cluster, "releases", name}}, &out)
	return out, err
}

// ApplyRelease makes a release wanted as r says; created tells whether it is
// new. The same again changes nothing. With ifGeneration it is refused, as a
// Problem of CodePreconditionFailed, when the release is at another.
func (c *Client) ApplyRelease(ctx context.Context, cluster, name string, r ReleaseRequest, ifGeneration *int64) (
	out Release, created bool, err error,
) {
	h := http.Header{}
	if ifGeneration != nil {
		h.Set("If-Match", `"`+strconv.FormatInt(*ifGeneration, 10)+`"`)
	}
	resp, err := c.do(ctx, request{
		method: http.MethodPut, path: []string{"clusters", cluster, "releases", name}, body: r, header: h,
	}, &out)
	return out, err == nil && resp.StatusCode == http.StatusCreated, err
}

// DeleteRelease asks for a release's removal from its cluster; it is gone when
// the agent says so. With forget the hub drops it at once and leaves whatever
// is in the cluster alone.
func (c *Client) DeleteRelease(ctx context.Context, cluster, name string, forget bool) (Release, error) {
	q := url.Values{}
	if forget {
		q.Set("forget", "true")
	}
	var out Release
	_, err := c.do(ctx, request{
		method: http.MethodDelete, path: []string{"clusters", cluster, "releases", name}, query: q,
	}, &out)
	return out, err
}
