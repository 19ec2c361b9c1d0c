// Command standin is the program inside the stand-in charts' pods: it plays
// the parts of NFD, NVIDIA's operator, HAMi and the Prometheus operator that
// others rely on, on nodes without any of their hardware.
//
//	nfd-worker              read the pretended devices of this node, apply the worker's configuration to them, write a NodeFeature
//	nfd-master [-prune]     turn NodeFeatures into labels of nodes; -prune takes all of them off again
//	nfd-gc                  remove the NodeFeatures of nodes that are gone
//	gpu-operator            make the operands of a ClusterPolicy, label nodes with GPUs, say ready
//	hami-scheduler          hold the Lease and answer the webhook
//	hami-device-plugin      register a node's GPUs as HAMi's annotations do
//	certgen create|patch    make the webhook's certificate; give its authority to the webhook
//	prometheus-operator     make the StatefulSet of a Prometheus, and the Service of the kubelets
//	labeller                label AMD nodes
//	serve                   only be there and answer
//
// What a node pretends to have is in its annotations:
//
//	e2e.budcluster.test/pci: 0302_10de_20b2,0200_15b3_1017   class_vendor_device, as NFD sees them
//	e2e.budcluster.test/gpu: NVIDIA-A100-SXM4-80GB,81920,8   product, MiB, number
//	fail.e2e.budcluster.test/hami-device-plugin: cannot …    that part fails on that node, and says so
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// terminationLog is where the kubelet looks for a container's last words.
const terminationLog = "/dev/termination-log"

// again is how often a part looks: the cluster is small and the test waits.
const again = 300 * time.Millisecond

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := play(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "standin:", err)
		_ = os.WriteFile(terminationLog, []byte(err.Error()), 0o600)
		os.Exit(1)
	}
}

// parts by name. One that loops is called again and again until it fails.
func parts() map[string]struct {
	loop bool
	play func(ctx context.Context, k *kube, args []string) error
} {
	type part = struct {
		loop bool
		play func(ctx context.Context, k *kube, args []string) error
	}
	return map[string]part{
		"nfd-worker":          {true, nfdWorker},
		"nfd-master":          {true, nfdMaster},
		"nfd-prune":           {false, nfdPrune},
		"nfd-gc":              {true, nfdCollect},
		"gpu-operator":        {true, gpuOperator},
		"hami-scheduler":      {false, hamiScheduler},
		"hami-device-plugin":  {true, hamiDevicePlugin},
		"certgen":             {false, certgen},
		"prometheus-operator": {true, prometheusOperator},
		"labeller":            {true, amdLabeller},
		"serve":               {false, func(ctx context.Context, _ *kube, _ []string) error { return serve(ctx) }},
	}
}

func play(ctx context.Context, args []string) error {
	name, args := strings.Join(args[:min(1, len(args))], ""), args[min(1, len(args)):]
	if name == "nfd-master" && len(args) > 0 && args[0] == "-prune" {
		name, args = "nfd-prune", nil
	}
	part, ok := parts()[name]
	if !ok {
		return fmt.Errorf("unknown part %q", name)
	}
	if name == "serve" {
		return part.play(ctx, nil, args)
	}
	k, err := inCluster()
	if err != nil {
		return err
	}
	if err := k.failing(ctx, name); err != nil {
		return err
	}
	if !part.loop {
		return part.play(ctx, k, args)
	}
	go func() { _ = serve(ctx) }()
	for {
		if err := part.play(ctx, k, args); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			// The API server may be away or the definitions not served yet.
			fmt.Fprintln(os.Stderr, name+":", err)
		}
		if err := k.failing(ctx, name); err != nil {
			return err
		}
		select {
		case <-time.After(again):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// serve answers probes until ctx ends.
func serve(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(http.ResponseWriter, *http.Request) {})
	server := &http.Server{Addr: ":8081", Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
