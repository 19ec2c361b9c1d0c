// Command cluster brings up a real Kubernetes cluster on this machine, for the
// end-to-end tests' own harness to be used by hand:
//
//	go run ./cmd/cluster build
//	go run ./cmd/cluster up --nodes 2 --kwok 100 --gpus 8
//	export KUBECONFIG=$(go run ./cmd/cluster kubeconfig)
//	go run ./cmd/cluster load image.tar
//	go run ./cmd/cluster stop node2 && go run ./cmd/cluster start node2
//	go run ./cmd/cluster status
//	go run ./cmd/cluster down
package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/budecosystem/budcluster/deploy/e2e/cluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := newCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// app is what the commands share.
type app struct {
	name, dir, cache string
	began            time.Time
}

func newCommand() *cobra.Command {
	a := &app{began: time.Now()}
	root := &cobra.Command{
		Use: "cluster", Short: "A real Kubernetes cluster on this machine", SilenceUsage: true, SilenceErrors: true,
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.locate() },
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.name, "name", "dev", "the cluster's name; each has a state folder of its own")
	flags.StringVar(&a.dir, "state-dir", "", "where it is kept (default: below the user's cache folder)")
	flags.StringVar(&a.cache, "cache-dir", "", "where the built programs are kept (default: the same)")
	root.AddCommand(a.build(), a.up(), a.down(), a.load(), a.kubeconfig(), a.status(), a.node("stop"), a.node("start"), a.kwok(), a.run("helm"), a.run("kubectl"))
	return root
}

func (a *app) locate() error {
	if a.dir == "" {
		dir, err := cluster.StateDir(a.name)
		if err != nil {
			return err
		}
		a.dir = dir
	}
	dir, err := filepath.Abs(a.dir)
	a.dir = dir
	return err
}

// say prints progress beside the output, so that $(…) gets only the output.
func (a *app) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

func (a *app) binaries(ctx context.Context, only ...string) (cluster.Binaries, error) {
	wd, err := os.Getwd()
	if err != nil {
		return cluster.Binaries{}, err
	}
	root, err := cluster.FindRoot(wd)
	if err != nil {
		return cluster.Binaries{}, err
	}
	return cluster.Build(ctx, cluster.BuildConfig{Root: root, CacheDir: a.cache, Prebuilt: os.Getenv("KUBE_BIN_DIR"), Only: only, Progress: a.say})
}

func (a *app) build() *cobra.Command {
	return &cobra.Command{
		Use: "build [PROGRAM...]", Short: "Build the cluster's programs, once, and say where they are",
		RunE: func(cmd *cobra.Command, only []string) error {
			bin, err := a.binaries(cmd.Context(), only...)
			if err != nil {
				return err
			}
			paths := bin.Paths()
			for _, name := range slices.Sorted(maps.Keys(paths)) {
				fmt.Printf("%-10s %s\n", name, paths[name])
			}
			return nil
		},
	}
}

func (a *app) up() *cobra.Command {
	var nodes, kwok, gpus int
	var foreground bool
	cmd := &cobra.Command{
		Use: "up", Short: "Bring a cluster up", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if err := cluster.Preflight(a.dir); err != nil {
				return err
			}
			bin, err := a.binaries(ctx)
			if err != nil {
				return err
			}
			c, err := cluster.Up(ctx, cluster.Config{Bin: bin, StateDir: a.dir, Name: a.name, Nodes: nodes, Detach: !foreground, Progress: a.say})
			if err != nil {
				return err
			}
			if gpus > 0 && nodes > 0 {
				if err := c.FakeGPUs(ctx, gpus); err != nil {
					return err
				}
			}
			if kwok > 0 {
				if err := c.Kwok(ctx, kwok); err != nil {
					return err
				}
				a.say("%d pretend nodes Ready", kwok)
			}
			fmt.Printf("export KUBECONFIG=%s\n", c.Kubeconfig())
			if !foreground {
				return nil
			}
			<-ctx.Done()
			a.say("taking the cluster down")
			return c.Down(context.WithoutCancel(ctx))
		},
	}
	cmd.Flags().BoolVar(&foreground, "foreground", false, "stay until interrupted; the cluster ends with this command, however that ends")
	cmd.Flags().IntVar(&nodes, "nodes", 1, "real nodes; 0 is a control plane alone")
	cmd.Flags().IntVar(&kwok, "kwok", 0, "pretend nodes beside them")
	cmd.Flags().IntVar(&gpus, "gpus", 0, "pretend GPUs on each real node")
	return cmd
}

func (a *app) down() *cobra.Command {
	return &cobra.Command{
		Use: "down", Short: "Remove the cluster and all that it made", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cluster.Down(cmd.Context(), a.dir) },
	}
}

func (a *app) load() *cobra.Command {
	return &cobra.Command{
		Use: "load IMAGE.tar ...", Short: "Import image archives into every running node", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, archives []string) error {
			c, err := cluster.Attach(a.dir)
			if err != nil {
				return err
			}
			return c.LoadImage(cmd.Context(), archives...)
		},
	}
}

func (a *app) kubeconfig() *cobra.Command {
	return &cobra.Command{
		Use: "kubeconfig", Short: "Print the administrator's kubeconfig file", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			c, err := cluster.Attach(a.dir)
			if err != nil {
				return err
			}
			fmt.Println(c.Kubeconfig())
			return nil
		},
	}
}

func (a *app) status() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show what runs", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := cluster.Attach(a.dir)
			if err != nil {
				return err
			}
			nodes, err := c.Kube().CoreV1().Nodes().List(cmd.Context(), metav1.ListOptions{})
			if err != nil {
				return err
			}
			fmt.Printf("address pods reach this machine at: %s\nlogs: %s/logs and %s/node*/\n", c.Address(), c.Dir(), c.Dir())
			table := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
			fmt.Fprintln(table, "NODE\tREADY\tGPUS")
			for _, node := range nodes.Items {
				gpus := node.Status.Allocatable["nvidia.com/gpu"]
				fmt.Fprintf(table, "%s\t%t\t%d\n", node.Name, cluster.NodeReady(&node), gpus.Value())
			}
			return table.Flush()
		},
	}
}

func (a *app) node(verb string) *cobra.Command {
	return &cobra.Command{
		Use: verb + " NODE", Short: verb + " a real node, as its power switch would", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := cluster.Attach(a.dir)
			if err != nil {
				return err
			}
			if verb == "stop" {
				return c.StopNode(cmd.Context(), args[0])
			}
			return c.StartNode(cmd.Context(), args[0])
		},
	}
}

func (a *app) kwok() *cobra.Command {
	var nodes int
	cmd := &cobra.Command{
		Use: "kwok", Short: "Add pretend nodes; --nodes 0 removes them", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := cluster.Attach(a.dir)
			if err != nil {
				return err
			}
			if nodes == 0 {
				return c.RemoveKwok(cmd.Context())
			}
			return c.Kwok(cmd.Context(), nodes)
		},
	}
	cmd.Flags().IntVar(&nodes, "nodes", 100, "how many")
	return cmd
}

// run passes a command on to helm or kubectl, pointed at the cluster.
func (a *app) run(program string) *cobra.Command {
	return &cobra.Command{
		Use: program + " ARGS...", Short: "Run " + program + " against the cluster", DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := cluster.Attach(a.dir)
			if err != nil {
				return err
			}
			command := c.Kubectl(cmd.Context(), args...)
			if program == "helm" {
				command = c.Helm(cmd.Context(), args...)
			}
			command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
			return command.Run()
		},
	}
}
