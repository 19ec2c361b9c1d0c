package podresources_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	podresourcesv1 "k8s.io/kubelet/pkg/apis/podresources/v1"

	"github.com/budecosystem/budcluster/agent/internal/podresources"
)

const uuid = "0b2c9d4e-0000-4000-8000-00000000000"

// kubelet answers as it is told to.
type kubelet struct {
	podresourcesv1.UnimplementedPodResourcesListerServer

	list func(ctx context.Context) (*podresourcesv1.ListPodResourcesResponse, error)
}

func (k kubelet) List(ctx context.Context, _ *podresourcesv1.ListPodResourcesRequest) (*podresourcesv1.ListPodResourcesResponse, error) {
	return k.list(ctx)
}

func serve(t *testing.T, list func(ctx context.Context) (*podresourcesv1.ListPodResourcesResponse, error)) *podresources.Reader {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "k.sock")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	require.NoError(t, err)
	server := grpc.NewServer()
	podresourcesv1.RegisterPodResourcesListerServer(server, kubelet{list: list})
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return reader(t, socket)
}

func reader(t *testing.T, socket string) *podresources.Reader {
	t.Helper()
	r, err := podresources.New(socket)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

func pod(name string, containers ...*podresourcesv1.ContainerResources) *podresourcesv1.PodResources {
	return &podresourcesv1.PodResources{Namespace: "models", Name: name, Containers: containers}
}

func given(resource string, ids ...string) *podresourcesv1.ContainerResources {
	return &podresourcesv1.ContainerResources{Name: "c", Devices: []*podresourcesv1.ContainerDevices{{ResourceName: resource, DeviceIds: ids}}}
}

// TestIDs: what each device plugin calls a device.
func TestIDs(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]struct {
		device string
		shared bool
	}{
		"GPU-" + uuid + "1":                {"GPU-" + uuid + "1", false},
		"GPU-" + uuid + "1::7":             {"GPU-" + uuid + "1", true},
		"MIG-" + uuid + "2":                {"MIG-" + uuid + "2", false},
		"MIG-" + uuid + "2::0":             {"MIG-" + uuid + "2", true},
		"MIG-GPU-" + uuid + "1/7/0":        {"MIG-GPU-" + uuid + "1/7/0", false},
		"GPU-" + uuid + "1-3":              {"", true},
		"0000:19:00.0":                     {"0000:19:00.0", false},
		"accel0":                           {"accel0", false},
		"GPU-" + uuid + "1-3-4":            {"GPU-" + uuid + "1-3-4", false},
		"NOGPU-GPU-" + uuid + "1::elastic": {"NOGPU-GPU-" + uuid + "1::elastic", false},
	} {
		r := serve(t, func(context.Context) (*podresourcesv1.ListPodResourcesResponse, error) {
			return &podresourcesv1.ListPodResourcesResponse{PodResources: []*podresourcesv1.PodResources{pod("a", given("nvidia.com/gpu", id))}}, nil
		})
		all, problems, err := r.List(t.Context())
		require.NoError(t, err)
		require.Empty(t, problems)
		require.Equal(t, []podresources.Allocation{{
			Namespace: "models", Pod: "a", Container: "c", Resource: "nvidia.com/gpu", ID: id, Device: want.device, Shared: want.shared,
		}}, all, id)
	}
}

// TestList: in order, each once, claims too, and names that are none are left out.
func TestList(t *testing.T) {
	t.Parallel()
	r := serve(t, func(context.Context) (*podresourcesv1.ListPodResourcesResponse, error) {
		claimed := &podresourcesv1.ContainerResources{Name: "d", DynamicResources: []*podresourcesv1.DynamicResource{{
			ClaimResources: []*podresourcesv1.ClaimResource{{DriverName: "gpu.nvidia.com", PoolName: "node1", DeviceName: "gpu-0"}},
		}}}
		return &podresourcesv1.ListPodResourcesResponse{PodResources: []*podresourcesv1.PodResources{
			pod("b", given("amd.com/gpu", "z", "y", "y"), claimed, given("", "x"), given("x", "\n"), given("x", strings.Repeat("x", 254))), pod("a"), nil,
		}}, nil
	})
	all, problems, err := r.List(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 3)
	require.Equal(t, []string{"y", "z", "gpu-0"}, []string{all[0].Device, all[1].Device, all[2].Device})
	require.Equal(t, "gpu.nvidia.com", all[2].Resource)
	require.Equal(t, []string{"the kubelet told of 3 allocations with an empty or unreadable name; they are left out"}, problems)
}

func TestManyAllocations(t *testing.T) {
	t.Parallel()
	r := serve(t, func(context.Context) (*podresourcesv1.ListPodResourcesResponse, error) {
		return &podresourcesv1.ListPodResourcesResponse{PodResources: []*podresourcesv1.PodResources{pod("a", given("x", make16kAndOne()...))}}, nil
	})
	all, problems, err := r.List(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 16_384)
	require.Equal(t, []string{"the kubelet told of more than 16384 allocations; 1 are left out"}, problems)
}

func make16kAndOne() []string {
	ids := make([]string, 16_385)
	for i := range ids {
		ids[i] = strings.Repeat("i", 1+i%200) + string(rune('a'+i/200%26)) + string(rune('a'+i/5200))
	}
	return ids
}

// TestKubeletsThatFail: each says what can be done.
func TestKubeletsThatFail(t *testing.T) {
	t.Parallel()
	hangs := func(ctx context.Context) (*podresourcesv1.ListPodResourcesResponse, error) {
		<-ctx.Done()
		return nil, errors.New("late")
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, _, err := serve(t, hangs).List(short)
	require.ErrorContains(t, err, "it did not answer in time; look at the kubelet's log")

	old := serve(t, func(context.Context) (*podresourcesv1.ListPodResourcesResponse, error) {
		return nil, status.Error(codes.Unimplemented, "unknown service v1.PodResourcesLister")
	})
	_, _, err = old.List(t.Context())
	require.ErrorContains(t, err, "this kubelet has no v1 of the API")

	huge := serve(t, func(context.Context) (*podresourcesv1.ListPodResourcesResponse, error) {
		return &podresourcesv1.ListPodResourcesResponse{PodResources: []*podresourcesv1.PodResources{pod("a", given("x", strings.Repeat("x", 17<<20)))}}, nil
	})
	_, _, err = huge.List(t.Context())
	require.ErrorContains(t, err, "larger than 16 MiB")

	_, _, err = reader(t, filepath.Join(t.TempDir(), "none.sock")).List(t.Context())
	require.ErrorContains(t, err, "there is no such socket; mount the host's folder")
}
