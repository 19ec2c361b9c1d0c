// Command kube is Kubernetes in one file: the component that it becomes is
// chosen by the name under which it is started, or by its first argument. One
// binary of 155 MB links in a third of the time of six that come to 485 MB.
package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	_ "time/tzdata" // nodes carry no zone files that CronJobs could use

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func main() {
	os.Exit(run())
}

func run() int {
	name, components := filepath.Base(os.Args[0]), commands()
	if components[name] == nil && len(os.Args) > 1 {
		name, os.Args = os.Args[1], os.Args[1:]
	}
	newCommand := components[name]
	if newCommand == nil {
		fmt.Fprintf(os.Stderr, "usage: kube {%s} ...\n", strings.Join(slices.Sorted(maps.Keys(components)), "|"))
		return 2
	}
	if name != "kubectl" {
		return cli.Run(newCommand())
	}
	// kubectl prints its own errors, and lets its plugins choose the exit code.
	if err := cli.RunNoErrOutput(newCommand()); err != nil {
		var coded interface{ ExitStatus() int }
		if errors.As(err, &coded) {
			return coded.ExitStatus()
		}
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func commands() map[string]func() *cobra.Command {
	return map[string]func() *cobra.Command{
		"kube-apiserver":          apiserver.NewAPIServerCommand,
		"kube-controller-manager": controllers.NewControllerManagerCommand,
		"kube-proxy":              proxy.NewProxyCommand,
		"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
		"kubectl":                 kubectl.NewDefaultKubectlCommand,
		"kubelet":                 func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
	}
}
