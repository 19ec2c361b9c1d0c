package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

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
	problems = append(problems, d.stopHub(ctx))
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
	return errors.Join(append(problems, d.shell(ctx, `
		helm uninstall budcluster-agent --namespace budcluster-system --ignore-not-found --wait &&
		kubectl delete namespace budcluster-system demo --ignore-not-found --wait=false &&
		kubectl delete crd releases.budcluster.io --ignore-not-found`))...)
}

func (d *demo) stopHub(ctx context.Context) error {
	if d.record.HubPID == 0 || !d.hubAlive() {
		return nil
	}
	if err := syscall.Kill(d.record.HubPID, syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the hub: %w", err)
	}
	gone := func() error {
		if d.hubAlive() {
			return errors.New("it is still there")
		}
		return nil
	}
	if err := wait(ctx, 40*time.Second, "the hub to stop", gone); err != nil {
		_ = syscall.Kill(d.record.HubPID, syscall.SIGKILL)
		return wait(ctx, 10*time.Second, "the hub to end", gone)
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
