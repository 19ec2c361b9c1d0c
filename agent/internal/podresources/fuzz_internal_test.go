package podresources

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	podresourcesv1 "k8s.io/kubelet/pkg/apis/podresources/v1"
)

// FuzzRead: whatever the kubelet's socket answers with, what comes out has names
// and a device that its id begins with.
func FuzzRead(f *testing.F) {
	seed, err := proto.Marshal(&podresourcesv1.ListPodResourcesResponse{PodResources: []*podresourcesv1.PodResources{{
		Namespace: "n", Name: "p", Containers: []*podresourcesv1.ContainerResources{{Name: "c", Devices: []*podresourcesv1.ContainerDevices{{
			ResourceName: "nvidia.com/gpu", DeviceIds: []string{"GPU-0b2c9d4e-0000-4000-8000-000000000001::3"},
		}}}},
	}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte{0x0a, 0xff})
	f.Fuzz(func(t *testing.T, raw []byte) {
		var answer podresourcesv1.ListPodResourcesResponse
		if proto.Unmarshal(raw, &answer) != nil {
			return
		}
		all, _ := read(&answer)
		for _, a := range all {
			if a.Pod == "" || a.Resource == "" || !strings.HasPrefix(a.ID, a.Device) {
				t.Fatalf("%+v", a)
			}
		}
	})
}
