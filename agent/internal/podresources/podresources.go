// Package podresources asks the kubelet of this node which containers have which
// devices, by its pod-resources API (v1, a gRPC service on a socket in
// /var/lib/kubelet/pod-resources). It says what was allocated, not what is used.
//
// Where HAMi hands out GPUs the kubelet does not know which: its ids are shares of
// a pool, and HAMi chooses the device by itself. Such an allocation has no Device;
// HAMi's annotation of the pod has it.
package podresources

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	podresourcesv1 "k8s.io/kubelet/pkg/apis/podresources/v1"
)

const (
	// DefaultSocket is where kubelets listen.
	DefaultSocket = "/var/lib/kubelet/pod-resources/kubelet.sock"
	// maxMessage is the limit that the kubelet's own client has: 16 MiB.
	maxMessage = 16 << 20
	// maxAllocations bounds what is kept of an answer.
	maxAllocations = 16_384
	maxText        = 253
)

// Allocation is a device, or a share of one, that a container has.
type Allocation struct {
	Namespace, Pod, Container string
	// Resource is the extended resource, such as nvidia.com/gpu, or the driver of
	// a claim (dynamic resource allocation), such as gpu.nvidia.com.
	Resource string
	// ID is what the device plugin calls it, and Device the device of it: a UUID of
	// NVIDIA's, else as the plugin says. Device is empty where the id does not tell.
	ID, Device string
	// Shared: the id is one of several of that device.
	Shared bool
}

// Reader asks the kubelet.
type Reader struct {
	socket string
	conn   *grpc.ClientConn
	client podresourcesv1.PodResourcesListerClient
}

// New makes a Reader. It does not connect yet.
func New(socket string) (*Reader, error) {
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	if err != nil {
		return nil, fmt.Errorf("pod-resources socket %s: %w", socket, err)
	}
	return &Reader{socket: socket, conn: conn, client: podresourcesv1.NewPodResourcesListerClient(conn)}, nil
}

// Close ends the connection.
func (r *Reader) Close() error { return r.conn.Close() }

// List gives all allocations, in order. A kubelet that hangs is left when ctx
// ends. Problems are sentences on what was left out.
func (r *Reader) List(ctx context.Context) (all []Allocation, problems []string, err error) {
	answer, err := r.client.List(ctx, &podresourcesv1.ListPodResourcesRequest{})
	if err != nil {
		return nil, nil, r.explain(err)
	}
	all, problems = read(answer)
	return all, problems, nil
}

// explain adds what can be done about an error.
func (r *Reader) explain(err error) error {
	remedy := ""
	switch status.Code(err) {
	case codes.DeadlineExceeded:
		remedy = "it did not answer in time; look at the kubelet's log"
	case codes.Unimplemented:
		remedy = "this kubelet has no v1 of the API; Kubernetes 1.20 and later have"
	case codes.ResourceExhausted:
		remedy = "its answer is larger than 16 MiB"
	case codes.PermissionDenied:
		remedy = "the agent needs to read and write the socket"
	case codes.Unavailable:
		if _, missing := os.Stat(r.socket); errors.Is(missing, fs.ErrNotExist) {
			remedy = "there is no such socket; mount the host's folder, or say where the kubelet's root is (kubelet.root)"
		}
	default: // the error says what there is to say
	}
	if remedy != "" {
		remedy = "; " + remedy
	}
	return fmt.Errorf("ask the kubelet at %s for the devices of pods%s: %w", r.socket, remedy, err)
}

// read takes an answer apart.
func read(answer *podresourcesv1.ListPodResourcesResponse) (all []Allocation, problems []string) {
	wrong, over := 0, 0
	add := func(a Allocation) {
		a.Device, a.Shared = deviceOf(a.ID)
		for _, text := range []string{a.Namespace, a.Pod, a.Container, a.Resource, a.ID} {
			if text == "" || len(text) > maxText || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\ufffd' }) {
				wrong++
				return
			}
		}
		if len(all) == maxAllocations {
			over++
			return
		}
		all = append(all, a)
	}
	for _, pod := range answer.GetPodResources() {
		for _, c := range pod.GetContainers() {
			of := Allocation{Namespace: pod.GetNamespace(), Pod: pod.GetName(), Container: c.GetName()}
			for _, d := range c.GetDevices() {
				of.Resource = d.GetResourceName()
				for _, of.ID = range d.GetDeviceIds() {
					add(of)
				}
			}
			for _, claim := range c.GetDynamicResources() {
				for _, one := range claim.GetClaimResources() {
					of.Resource, of.ID = one.GetDriverName(), one.GetDeviceName()
					add(of)
				}
			}
		}
	}
	if wrong > 0 {
		problems = append(problems, fmt.Sprintf("the kubelet told of %d allocations with an empty or unreadable name; they are left out", wrong))
	}
	if over > 0 {
		problems = append(problems, fmt.Sprintf("the kubelet told of more than %d allocations; %d are left out", maxAllocations, over))
	}
	// A device is told of once for each NUMA node that it is near to.
	slices.SortFunc(all, compare)
	return slices.Compact(all), problems
}

func compare(a, b Allocation) int {
	return cmp.Or(
		cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Pod, b.Pod), cmp.Compare(a.Container, b.Container),
		cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.ID, b.ID),
	)
}

// nvidia is a UUID of NVIDIA's with what a device plugin has put behind it: ::N
// for a share (time-slicing, MPS), -N for one of HAMi's. The form of a MIG
// instance before driver 470 has its numbers behind the GPU's UUID.
var nvidia = regexp.MustCompile(`^((?:GPU|MIG)-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|MIG-GPU-[0-9a-f-]{36}/\d+/\d+)(::\d+|-\d+)?$`)

// deviceOf is the device that a plugin's id stands for.
func deviceOf(id string) (device string, shared bool) {
	parts := nvidia.FindStringSubmatch(id)
	switch {
	case parts == nil:
		return id, false
	case strings.HasPrefix(parts[2], "-"):
		return "", true
	default:
		return parts[1], parts[2] != ""
	}
}
