package hubapi

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"time"

	"github.com/budecosystem/budcluster/internal/facts"
)

// Cluster is one entry of the register, with what is known of the contact.
type Cluster struct {
	ID     string            `json:"id"`
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels,omitempty"`
	State  ClusterState      `json:"state" doc:"Pending: never joined. Connected: heard from now. Unknown: it joined and is away now; nothing is concluded from that. Revoked: its certificates are refused. Retired: it left the fleet."`
	// LastSeen is the age of everything below: when the hub last heard from
	// the cluster; nil until it joins.
	LastSeen *time.Time `json:"lastSeen,omitempty" doc:"When the hub last heard from the cluster; absent until it joins."`
	// AgeSeconds is the time since LastSeen by the hub's clock.
	AgeSeconds   *int64          `json:"ageSeconds,omitempty" doc:"Time since lastSeen by the hub's clock."`
	UID          string          `json:"uid,omitempty" doc:"UID of the cluster's kube-system namespace; absent until it joined."`
	AgentVersion string          `json:"agentVersion,omitempty"`
	Facts        *ClusterFacts   `json:"facts,omitempty" doc:"What the agent reported about the cluster as a whole; absent until it did."`
	Degraded     []Degradation   `json:"degraded,omitempty" doc:"Why the cluster is not fully served; empty when all is well."`
	Nodes        int             `json:"nodes" doc:"Nodes in the inventory."`
	ReadyNodes   int             `json:"readyNodes" doc:"Nodes of these that are ready."`
	Session      *ClusterSession `json:"session,omitempty" doc:"The open tunnel; absent when there is none."`
	CreatedAt    time.Time       `json:"createdAt"`
	JoinedAt     *time.Time      `json:"joinedAt,omitempty"`
	RevokedAt    *time.Time      `json:"revokedAt,omitempty"`
	RetiringAt   *time.Time      `json:"retiringAt,omitempty" doc:"When its agent was told to remove what the hub put there."`
	RetiredAt    *time.Time      `json:"retiredAt,omitempty" doc:"When it left the fleet."`
	GoneAt       *time.Time      `json:"goneAt,omitempty" doc:"When its agent said that it has removed what the hub put there; later than retiredAt, or absent, when the cluster was retired by force."`
	Left         []string        `json:"left,omitempty" doc:"What the agent could not remove, a sentence each."`
}

// Presence is one thing that was looked for in a cluster, and what was found.
type Presence = facts.Presence

// ClusterPresence is what was found in a cluster of what components are looked
// for.
type ClusterPresence struct {
	Cluster    ClusterRef `json:"cluster"`
	ObservedAt *time.Time `json:"observedAt,omitempty" doc:"When the agent last answered; absent until it did."`
	Items      []Presence `json:"items"`
}

// ClusterFacts is what an agent reports about its cluster as a whole.
type ClusterFacts = facts.Cluster

// ClusterState sums up the contact with a cluster.
type ClusterState string

// The states of a cluster.
const (
	ClusterPending   ClusterState = "Pending"
	ClusterConnected ClusterState = "Connected"
	ClusterUnknown   ClusterState = "Unknown"
	ClusterRevoked   ClusterState = "Revoked"
	ClusterRetired   ClusterState = "Retired"
)

// ClusterRef names the cluster that something is in, and says how old what is
// known of it can be.
type ClusterRef struct {
	ID       string       `json:"id"`
	Name     string       `json:"name"`
	State    ClusterState `json:"state"`
	LastSeen *time.Time   `json:"lastSeen,omitempty" doc:"When the hub last heard from the cluster; absent until it joins."`
	// AgeSeconds is the time since LastSeen by the hub's clock.
	AgeSeconds *int64 `json:"ageSeconds,omitempty" doc:"Time since lastSeen by the hub's clock."`
}

// ClusterSession is one open tunnel.
type ClusterSession struct {
	Replica     string    `json:"replica" doc:"The hub replica that holds the tunnel."`
	Instance    string    `json:"instance" doc:"The agent's pod."`
	RemoteAddr  string    `json:"remoteAddr"`
	ConnectedAt time.Time `json:"connectedAt"`
}

// Degradation is one reason why a cluster is not fully served.
type Degradation struct {
	Reason  string    `json:"reason" doc:"CamelCase, for programs."`
	Message string    `json:"message" doc:"A sentence with the remedy."`
	Since   time.Time `json:"since"`
}

// CreateClusterRequest asks for a new cluster and its first join token.
type CreateClusterRequest struct {
	Name   string            `json:"name" doc:"Unique; lower-case letters, digits and '-', at most 63, beginning and ending with a letter or digit." example:"prod-eu-1"`
	Labels map[string]string `json:"labels,omitempty"`
	// TokenTTL is how long the join token may be used, e.g. "24h".
	TokenTTL string `json:"tokenTTL,omitempty" doc:"How long the join token may be used; the hub's default when absent." example:"24h"`
}

// CreatedCluster is a new cluster with what its owner needs to join it.
type CreatedCluster struct {
	Cluster Cluster `json:"cluster"`
	// JoinToken is shown this once.
	JoinToken Token `json:"joinToken" doc:"Its token member is shown this once."`
	// InstallCommand is the one helm install that joins the cluster.
	InstallCommand string `json:"installCommand" doc:"Run it against the cluster, once."`
}

// Agent is a running agent's own answer, fetched through its tunnel.
type Agent struct {
	Cluster             ClusterRef    `json:"cluster"`
	Version             string        `json:"version"`
	Instance            string        `json:"instance" doc:"Its pod."`
	Namespace           string        `json:"namespace"`
	StartedAt           *time.Time    `json:"startedAt,omitempty"`
	ResidentBytes       int64         `json:"residentBytes"`
	Goroutines          int           `json:"goroutines"`
	CertificateNotAfter *time.Time    `json:"certificateNotAfter,omitempty"`
	Releases            int           `json:"releases"`
	Nodes               int           `json:"nodes"`
	Degraded            []Degradation `json:"degraded,omitempty"`
	// RoundTripMillis is how long the question took.
	RoundTripMillis float64   `json:"roundTripMillis" doc:"How long the question took, hub to agent and back."`
	ObservedAt      time.Time `json:"observedAt"`
}

// Clusters gives one page of clusters, by name.
func (c *Client) Clusters(ctx context.Context, p PageOptions) (List[Cluster], error) {
	var out List[Cluster]
	_, err := c.do(ctx, request{method: http.MethodGet, path: []string{"clusters"}, query: p.query()}, &out)
	return out, err
}

// AllClusters gives every cluster.
func (c *Client) AllClusters(ctx context.Context) iter.Seq2[Cluster, error] {
	return all(ctx, PageOptions{}, c.Clusters)
}

// CreateCluster makes a cluster and its first join token.
func (c *Client) CreateCluster(ctx context.Context, r CreateClusterRequest) (CreatedCluster, error) {
	var out CreatedCluster
	_, err := c.do(ctx, request{method: http.MethodPost, path: []string{"clusters"}, body: r}, &out)
	return out, err
}

// Cluster gives one cluster by name or id.
func (c *Client) Cluster(ctx context.Context, cluster string) (Cluster, error) {
	var out Cluster
	_, err := c.do(ctx, request{method: http.MethodGet, path: []string{"clusters", cluster}}, &out)
	return out, err
}

// DeleteCluster forgets a cluster and revokes its identity. With releases in
// it, it is refused unless force is set; nothing in the cluster is touched.
func (c *Client) DeleteCluster(ctx context.Context, cluster string, force bool) error {
	q := url.Values{}
	if force {
		q.Set("force", "true")
	}
	_, err := c.do(ctx, request{method: http.MethodDelete, path: []string{"clusters", cluster}, query: q}, nil)
	return err
}

// RevokeCluster refuses the cluster's certificates from now on and closes its
// tunnel.
func (c *Client) RevokeCluster(ctx context.Context, cluster string) (Cluster, error) {
	var out Cluster
	_, err := c.do(ctx, request{method: http.MethodPost, path: []string{"clusters", cluster, "revoke"}}, &out)
	return out, err
}

// RetireCluster has the cluster's agent remove what the hub put there, and then
// itself; when it has, the cluster leaves the fleet. With force the cluster
// leaves at once.
func (c *Client) RetireCluster(ctx context.Context, cluster string, force bool) (Cluster, error) {
	q := url.Values{}
	if force {
		q.Set("force", "true")
	}
	var out Cluster
	_, err := c.do(ctx, request{method: http.MethodPost, path: []string{"clusters", cluster, "retire"}, query: q}, &out)
	return out, err
}

// RetiredClusters gives one page of the clusters that left the fleet, by name.
func (c *Client) RetiredClusters(ctx context.Context, p PageOptions) (List[Cluster], error) {
	q := p.query()
	if q == nil {
		q = url.Values{}
	}
	q.Set("retired", "true")
	var out List[Cluster]
	_, err := c.do(ctx, request{method: http.MethodGet, path: []string{"clusters"}, query: q}, &out)
	return out, err
}

// Presence gives what was found in a cluster of what components are looked for.
func (c *Client) Presence(ctx context.Context, cluster string) (ClusterPresence, error) {
	var out ClusterPresence
	_, err := c.do(ctx, request{method: http.MethodGet, path: []string{"clusters", cluster, "presence"}}, &out)
	return out, err
}

// Agent asks the cluster's agent about itself, through the tunnel.
func (c *Client) Agent(ctx context.Context, cluster string) (Agent, error) {
	var out Agent
	_, err := c.do(ctx, request{method: http.MethodGet, path: []string{"clusters", cluster, "agent"}}, &out)
	return out, err
}
