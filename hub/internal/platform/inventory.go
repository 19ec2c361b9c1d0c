package platform

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/inventory"
	"github.com/budecosystem/budcluster/hub/internal/mirror"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/internal/facts"
)

// nodeInfo is the platform's ClusterNodeInfoResponse. The workers are counted
// elsewhere, and are 0 here as they always were.
type nodeInfo struct {
	ID               uuid.UUID         `json:"id"`
	ClusterID        uuid.UUID         `json:"cluster_id"`
	Name             string            `json:"name"`
	InternalIP       *string           `json:"internal_ip"`
	Type             string            `json:"type"`
	TotalWorkers     int               `json:"total_workers"`
	AvailableWorkers int               `json:"available_workers"`
	UsedWorkers      int               `json:"used_workers"`
	ThreadsPerCore   int               `json:"threads_per_core"`
	CoreCount        int               `json:"core_count"`
	HardwareInfo     []hardware        `json:"hardware_info"`
	Status           bool              `json:"status"`
	Schedulable      bool              `json:"schedulable"`
	KernelInfo       map[string]string `json:"kernel_info"`
	StatusSyncAt     time.Time         `json:"status_sync_at"`
	CreatedAt        time.Time         `json:"created_at"`
	ModifiedAt       time.Time         `json:"modified_at"`
}

// hardware is one device of a node.
type hardware struct {
	DeviceConfig   mirror.Device `json:"device_config"`
	TotalCount     int           `json:"total_count"`
	AvailableCount int           `json:"available_count"`
	Type           string        `json:"type"`
	mirror.Use
}

// look is a cluster with its nodes, as one request sees it.
type look struct {
	cluster *cluster.Cluster
	nodes   []inventory.Node
	state   mirror.State
	entry   mirror.Entry
	// presence is what the agent found of components; of the health only.
	presence []facts.Presence
}

// look reads the cluster that the path names.
func (s *Server) look(r *http.Request) (*look, *answer) {
	id, bad := pathID(r, "cluster_id")
	if bad != nil {
		return nil, bad
	}
	c, bad := s.find(r.Context(), id)
	if bad != nil {
		return nil, bad
	}
	l := &look{cluster: c}
	var err error
	if l.nodes, err = s.nodes(r.Context(), id); err != nil {
		a := s.problem(r.Context(), nil, err)
		return nil, &a
	}
	l.state = mirror.StateOf(mirror.With(c, l.nodes), s.now(), s.cfg.Grace)
	l.entry = mirror.EntryOf(c, l.nodes, l.state)
	return l, nil
}

func (s *Server) nodes(ctx context.Context, id uuid.UUID) (all []inventory.Node, err error) {
	p := page.Page{Limit: page.MaxLimit}
	for {
		some, next, err := s.cfg.Inventory.Nodes(ctx, inventory.Filter{ClusterID: &id}, p)
		if err != nil {
			return nil, err
		}
		if all = append(all, some...); next == "" {
			return all, nil
		}
		p.Cursor = next
	}
}

// listNodes is GET /cluster/{cluster_id}/nodes.
func (s *Server) listNodes(r *http.Request) answer {
	l, bad := s.look(r)
	if bad != nil {
		return *bad
	}
	out := make([]nodeInfo, 0, len(l.nodes))
	for i := range l.nodes {
		out = append(out, infoOf(&l.nodes[i], l.entry.Nodes[i]))
	}
	return okAs("cluster.nodes", "Cluster nodes fetched successfully", map[string]any{"nodes": out})
}

func infoOf(n *inventory.Node, as mirror.Node) nodeInfo {
	info := nodeInfo{
		ID: mirror.NodeID(n), ClusterID: n.ClusterID, Name: n.Name, InternalIP: address(n), Type: string(facts.KindCPU), HardwareInfo: []hardware{},
		Status: as.Status, Schedulable: n.Schedulable, StatusSyncAt: n.UpdatedAt.UTC(), CreatedAt: n.CreatedAt.UTC(), ModifiedAt: n.UpdatedAt.UTC(),
		KernelInfo: map[string]string{"version": n.Kernel, "os_image": n.OSImage, "os": n.OperatingSystem, "architecture": n.Architecture},
	}
	if n.LastSeen != nil {
		info.StatusSyncAt = n.LastSeen.UTC()
	}
	for i, d := range as.Devices {
		info.HardwareInfo = append(info.HardwareInfo, hardware{DeviceConfig: d, TotalCount: d.TotalCount, AvailableCount: d.AvailableCount, Type: d.Type})
		if n.Devices[i].Kind != facts.KindCPU {
			info.HardwareInfo[i].Use, info.Type = d.Use, d.Type
			continue
		}
		if d.Cores != nil {
			info.CoreCount = int(*d.Cores)
		}
		if d.Cores != nil && d.Threads != nil && *d.Cores > 0 {
			info.ThreadsPerCore = int(max(*d.Threads / *d.Cores, 1))
		}
	}
	return info
}

func address(n *inventory.Node) *string {
	for _, a := range n.Addresses {
		if a.Type == "InternalIP" {
			return &a.Address
		}
	}
	return nil
}

// deviceInfo is GET /cluster/{cluster_id}/device-info.
func (s *Server) deviceInfo(r *http.Request) answer {
	l, bad := s.look(r)
	if bad != nil {
		return *bad
	}
	return okAs("cluster.device-info", "Cluster devices fetched successfully", l.entry)
}

// getConfig is GET /cluster/{cluster_id}/get-config. There is no kubeconfig to
// give: none is kept.
func (s *Server) getConfig(r *http.Request) answer {
	id, bad := pathID(r, "cluster_id")
	if bad != nil {
		return *bad
	}
	c, bad := s.find(r.Context(), id)
	if bad != nil {
		return *bad
	}
	return failed(http.StatusGone,
		"The hub keeps no kubeconfig of cluster %q, nor of any: it reaches clusters by their agents. Read nodes at /cluster/%s/nodes, storage classes at /cluster/%s/storage-classes and "+
			"the state at /cluster/%s/health; what else there is, /v1 of the hub tells.", c.Name, id, id, id)
}

// storageClass is a storage class in the platform's form.
type storageClass struct {
	Name              string            `json:"name"`
	Provisioner       string            `json:"provisioner"`
	Parameters        map[string]string `json:"parameters"`
	ReclaimPolicy     string            `json:"reclaim_policy"`
	VolumeBindingMode string            `json:"volume_binding_mode"`
	Default           bool              `json:"default"`
	// AccessMode is the widest that the provisioner is known to support.
	AccessMode string `json:"recommended_access_mode"`
}

// storageClasses is GET /cluster/{cluster_id}/storage-classes.
func (s *Server) storageClasses(r *http.Request) answer {
	id, bad := pathID(r, "cluster_id")
	if bad != nil {
		return *bad
	}
	c, bad := s.find(r.Context(), id)
	if bad != nil {
		return *bad
	}
	if state := mirror.StateOf(c, s.now(), s.cfg.Grace); state != mirror.StateAvailable {
		return failed(http.StatusBadRequest, "Cluster %q is %s, so its storage classes may have changed; ask again when its agent is connected and a node is ready.", c.Name, state)
	}
	classes := []storageClass{}
	if c.Facts != nil {
		for _, one := range c.Facts.StorageClasses {
			classes = append(classes, storageClass{
				Name: one.Name, Provisioner: one.Provisioner, Parameters: parameters(one.Parameters), ReclaimPolicy: cmp.Or(one.ReclaimPolicy, "Delete"),
				VolumeBindingMode: cmp.Or(one.BindingMode, "Immediate"), Default: one.Default, AccessMode: cmp.Or(one.AccessMode, "ReadWriteOnce"),
			})
		}
	}
	slices.SortFunc(classes, func(a, b storageClass) int { return cmp.Compare(a.Name, b.Name) })
	return okAs("cluster.storage-classes", "Storage classes fetched successfully", map[string]any{"storage_classes": classes})
}

// parameters is never null.
func parameters(p map[string]string) map[string]string {
	if p == nil {
		return map[string]string{}
	}
	return p
}
