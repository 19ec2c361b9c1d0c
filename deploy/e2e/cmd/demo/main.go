// Command demo shows BudCluster whole on one machine, for `make demo` and
// `make demo-down`:
//
//	hub (private PostgreSQL) ◄── agent, installed by Helm ── the cluster of
//	$KUBECONFIG, or a real one-node cluster of the harness's own
//
// The own cluster is registered with its components, whose charts come from a
// repository on this machine. A cluster of the user's is joined and gets a
// sample release, and nothing else.
//
// $DEMO_IMAGE names an image for the sample release in a cluster of one's own
// that cannot pull registry.k8s.io/pause.
//
// What it starts is recorded in .budcluster/demo.json before it is started, so
// down also clears up after an up that was interrupted.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/budecosystem/budcluster/deploy/e2e/cluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	interrupted := ctx.Err() != nil
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo:", err)
		if interrupted {
			fmt.Fprintln(os.Stderr, "demo: interrupted; `make demo-down` removes what was started, `make demo` goes on")
		}
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 3 && args[0] == "charts": // what up starts, to stay
		return serveCharts(ctx, args[1], args[2])
	case len(args) != 1 || args[0] != "up" && args[0] != "down":
		return errors.New("usage: demo up|down")
	}
	wd, err := os.Getwd()
	if err != nil {
		return err
	}
	root, err := cluster.FindRoot(wd)
	if err != nil {
		return err
	}
	d := &demo{
		root: root, repo: filepath.Join(root, "..", ".."), kubeconfig: os.Getenv("KUBECONFIG"), image: os.Getenv("DEMO_IMAGE"),
		prebuilt: os.Getenv("KUBE_BIN_DIR"), environ: environ(),
	}
	if err := d.open(); err != nil {
		return err
	}
	if args[0] == "down" {
		return d.down(ctx)
	}
	return d.up(ctx)
}
