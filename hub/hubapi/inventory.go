package hubapi

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/budecosystem/budcluster/internal/facts"
)

// Node is one machine of a cluster, as its agent last reported it.
type Node struct {
	Cluster ClusterRef `json:"cluster"`
	facts.Node
	// Available is Allocatable less Requested; zero on a node that takes no
	// work.
	Available Resources `json:"available" doc:"Allocatable less requested; zero when the node is not ready or cordoned."`
	UpdatedAt time.Time `json:"updatedAt" doc:"When what is said here last changed at the hub."`
}

// Resources are amounts: CPU in thousandths of a core, the rest in bytes and
// pieces.
type Resources = facts.Resources

// Device is one accelerator, or the CPU of a node.
type Device struct {
	Cluster         ClusterRef `json:"cluster"`
	Node            string     `json:"node"`
	NodeReady       bool       `json:"nodeReady"`
	NodeSchedulable bool       `json:"nodeSchedulable"`
	facts.Device
	UpdatedAt time.Time `json:"updatedAt" doc:"When what is said here last changed at the hub."`
}

// NodeQuery chooses nodes; the zero value is all of the fleet.
type NodeQuery struct {
	PageOptions
	Cluster string // name or id
	Ready   *bool
}

func (q NodeQuery) query() url.Values {
	v := q.PageOptions.query()
	if q.Ready != nil {
		v.Set("ready", strconv.FormatBool(*q.Ready))
	}
	return v
}

// DeviceQuery chooses devices; the zero value is all of the fleet.
type DeviceQuery struct {
	PageOptions
	Cluster string // name or id
	Node    string
	Vendor  string
	Kind    string
	Model   string
}

func (q DeviceQuery) query() url.Values {
	v := q.PageOptions.query()
	setString(v, "node", q.Node)
	setString(v, "vendor", q.Vendor)
	setString(v, "kind", q.Kind)
	setString(v, "model", q.Model)
	return v
}

// Nodes gives one page of nodes, by cluster and name.
func (c *Client) Nodes(ctx context.Context, q NodeQuery) (List[Node], error) {
	var out List[Node]
	_, err := c.do(ctx, request{method: http.MethodGet, path: within(q.Cluster, "nodes"), query: q.query()}, &out)
	return out, err
}

// AllNodes gives every node that the query chooses.
func (c *Client) AllNodes(ctx context.Context, q NodeQuery) iter.Seq2[Node, error] {
	return all(ctx, q.PageOptions, func(ctx context.Context, p PageOptions) (List[Node], error) {
		q.PageOptions = p
		return c.Nodes(ctx, q)
	})
}

// Node gives one node.
func (c *Client) Node(ctx context.Context, cluster, node string) (Node, error) {
	var out Node
	_, err := c.do(ctx, request{method: http.MethodGet, path: []string{"clusters", cluster, "nodes", node}}, &out)
	return out, err
}

// Devices gives one page of devices, by cluster, node and id.
func (c *Client) Devices(ctx context.Context, q DeviceQuery) (List[Device], error) {
	var out List[Device]
	_, err := c.do(ctx, request{method: http.MethodGet, path: within(q.Cluster, "devices"), query: q.query()}, &out)
	return out, err
}

// AllDevices gives every device that the query chooses.
func (c *Client) AllDevices(ctx context.Context, q DeviceQuery) iter.Seq2[Device, error] {
	return all(ctx, q.PageOptions, func(ctx context.Context, p PageOptions) (List[Device], error) {
		q.PageOptions = p
		return c.Devices(ctx, q)
	})
}

// within is the path of a list in one cluster, or in the whole fleet.
func within(cluster, list string) []string {
	if cluster == "" {
		return []string{list}
	}
	return []string{"clusters", cluster, list}
}
