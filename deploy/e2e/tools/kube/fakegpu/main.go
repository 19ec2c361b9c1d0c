// Command fakegpu is a kubelet device plugin that offers pretend GPUs: as many
// nvidia.com/gpu as its argument says (default 8). A container that is given
// some finds their ids in NVIDIA_VISIBLE_DEVICES, as with the real plugin.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const (
	resource = "nvidia.com/gpu"
	socket   = "fakegpu.sock"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		slog.ErrorContext(ctx, "fakegpu stopped", slog.Any("error", err))
		os.Exit(1) //nolint:gocritic // the signal handler needs no farewell
	}
}

func run(ctx context.Context, args []string) error {
	count := 8
	if len(args) > 0 {
		var err error
		if count, err = strconv.Atoi(args[0]); err != nil || count < 0 {
			return fmt.Errorf("the number of devices %q is not a whole number from 0 up", args[0])
		}
	}
	path := filepath.Join(v1beta1.DevicePluginPath, socket)
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("remove the socket of an earlier run: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("listen for the kubelet: %w", err)
	}
	server := grpc.NewServer()
	v1beta1.RegisterDevicePluginServer(server, &plugin{count: count, stopped: ctx.Done()})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer server.Stop()
	if err := register(ctx); err != nil {
		return err
	}
	slog.InfoContext(ctx, "registered", slog.String("resource", resource), slog.Int("devices", count))
	// A kubelet that starts anew wipes the folder of sockets: leave then, and
	// be started again by it.
	alive := time.NewTicker(time.Second)
	defer alive.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-served:
			return fmt.Errorf("serve the kubelet: %w", err)
		case <-alive.C:
			if _, err := os.Stat(path); err != nil {
				return fmt.Errorf("the kubelet restarted: %w", err)
			}
		}
	}
}

func register(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	conn, err := grpc.NewClient("unix://"+v1beta1.KubeletSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("open the kubelet's socket: %w", err)
	}
	defer conn.Close()
	_, err = v1beta1.NewRegistrationClient(conn).Register(ctx, &v1beta1.RegisterRequest{
		Version: v1beta1.Version, Endpoint: socket, ResourceName: resource,
	}, grpc.WaitForReady(true))
	if err != nil {
		return fmt.Errorf("register with the kubelet: %w", err)
	}
	return nil
}

type plugin struct {
	v1beta1.UnimplementedDevicePluginServer

	count   int
	stopped <-chan struct{}
}

// GetDevicePluginOptions says that no extra calls are wanted.
func (p *plugin) GetDevicePluginOptions(context.Context, *v1beta1.Empty) (*v1beta1.DevicePluginOptions, error) {
	return &v1beta1.DevicePluginOptions{}, nil
}

// ListAndWatch names the devices once; they never change.
func (p *plugin) ListAndWatch(_ *v1beta1.Empty, stream v1beta1.DevicePlugin_ListAndWatchServer) error {
	devices := make([]*v1beta1.Device, p.count)
	for i := range devices {
		devices[i] = &v1beta1.Device{ID: fmt.Sprintf("GPU-%d", i), Health: v1beta1.Healthy}
	}
	if err := stream.Send(&v1beta1.ListAndWatchResponse{Devices: devices}); err != nil {
		return fmt.Errorf("send the devices: %w", err)
	}
	select {
	case <-stream.Context().Done():
	case <-p.stopped:
	}
	return nil
}

// Allocate hands the ids to the container.
func (p *plugin) Allocate(_ context.Context, request *v1beta1.AllocateRequest) (*v1beta1.AllocateResponse, error) {
	response := &v1beta1.AllocateResponse{}
	for _, container := range request.GetContainerRequests() {
		response.ContainerResponses = append(response.ContainerResponses, &v1beta1.ContainerAllocateResponse{
			Envs: map[string]string{"NVIDIA_VISIBLE_DEVICES": strings.Join(container.GetDevicesIds(), ",")},
		})
	}
	return response, nil
}
