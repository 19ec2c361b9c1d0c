package cli_test

import (
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/apitest"
	"github.com/budecosystem/budcluster/internal/facts"
)

// populate enters two clusters: frankfurt, which is well, and lyon, which is
// away. It returns the id of frankfurt.
func populate(h *apitest.Hub) uuid.UUID {
	frankfurt, lyon := h.AddCluster("frankfurt"), h.AddCluster("lyon")
	h.SetNode(frankfurt, apitest.Node("worker-1", 2))
	cordoned := apitest.Node("worker-2", 0)
	cordoned.Schedulable = false
	cordoned.Taints = []facts.Taint{{Key: "node.kubernetes.io/unschedulable", Effect: "NoSchedule"}}
	cordoned.Addresses = []facts.Address{{Type: "InternalIP", Address: "10.0.0.2"}}
	cordoned.Problems = []string{"label nvidia.com/gpu.memory is \"lots\", which is no number"}
	cordoned.Labels = map[string]string{"site": "a"}
	suspect := apitest.Now().Add(-time.Minute)
	cordoned.Devices[0].SuspectSince = &suspect
	h.SetNode(frankfurt, cordoned)
	broken := apitest.Node("edge-1", 1)
	broken.Ready, broken.ReadyReason = false, "KubeletNotReady"
	h.SetNode(lyon, broken)
	h.Leave(lyon, 7*time.Minute)
	return frankfurt
}
