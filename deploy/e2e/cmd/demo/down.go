package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/budecosystem/budcluster/deploy/e2e/cluster"
)

// down removes what up made. It goes on after a step that failed, and says so
// in the end.
func (d *demo) down(ctx context.Context) error {
	if d.record == (record{}) {
		d.step("there is no demo to remove")
		return os.RemoveAll(d.dir)
	}
	var problems []error
	if !d.record.Own && d.record.Kubeconfig != "" {
		d.step("removing release and agent from the cluster of %s", d.record.Kubeconfig)
		problems = append(problems, d.leave(ctx))
	}
	d.step("stopping the hub")
	problems = append(problems, d.stopHub(ctx), d.stopCharts(ctx))
	if d.record.Own {
		d.step("removing the cluster")
		problems = append(problems, cluster.Down(ctx, d.record.ClusterDir))
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("%w\nrun `make demo-down` again when that is mended; %s says what is left", err, d.file())
	}
	if d.record.HubDir != "" {
		if err := os.RemoveAll(d.record.HubDir); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(d.dir); err != nil {
		return err
	}
	d.say("all of it is gone")
	return nil
}

// leave takes the demo out of a cluster that is not ours.
func (d *demo) leave(ctx context.Context) error {
	var problems []error
	if d.state(ctx) == "Connected" {
		_, err := d.cli(ctx, "release", "delete", "hello", "--cluster", clusterName, "--yes", "--wait")
		problems = append(problems, err)
	}
	problems = append(problems, d.shell(ctx, "helm uninstall budcluster-agent --namespace budcluster-system --ignore-not-found --wait"))
	return errors.Join(append(problems, d.deleteObjects(ctx))...)
}

// deleteObjects removes what Helm leaves: the namespaces with the agent's
// identity, and the resource definition that the agent made.
func (d *demo) deleteObjects(ctx context.Context) error {
	config, err := clientcmd.BuildConfigFromFlags("", d.record.Kubeconfig)
	if err != nil {
		return fmt.Errorf("read %s: %w", d.record.Kubeconfig, err)
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	definitions := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	namespaces := schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	var problems []error
	for _, object := range []struct {
		kind schema.GroupVersionResource
		name string
	}{{namespaces, "budcluster-system"}, {namespaces, "demo"}, {definitions, "releases.budcluster.io"}} {
		err := client.Resource(object.kind).Delete(ctx, object.name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			problems = append(problems, fmt.Errorf("delete %s %s: %w", object.kind.Resource, object.name, err))
		}
	}
	return errors.Join(problems...)
}

func (d *demo) stopHub(ctx context.Context) error {
	return stop(ctx, "the hub", d.record.HubPID, d.hubAlive)
}

func (d *demo) stopCharts(ctx context.Context) error {
	return stop(ctx, "the repository of charts", d.record.ChartsPID, d.chartsAlive)
}

// stop ends a process that up left running, by force when it does not heed.
func stop(ctx context.Context, what string, pid int, alive func() bool) error {
	if !alive() {
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop %s: %w", what, err)
	}
	gone := func() error {
		if alive() {
			return errors.New("it is still there")
		}
		return nil
	}
	if err := wait(ctx, 40*time.Second, what+" to stop", gone); err != nil {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		return wait(ctx, 10*time.Second, what+" to end", gone)
	}
	return nil
}

// field reads one text field of a JSON object.
func field(object, name string) string {
	var fields map[string]any
	if json.Unmarshal([]byte(object), &fields) != nil {
		return ""
	}
	text, _ := fields[name].(string)
	return text
}
