package retire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"

	"github.com/budecosystem/budcluster/internal/backoff"
	"github.com/budecosystem/budcluster/internal/logkey"
)

// Mark is the annotation on a Deployment whose agent is leaving.
const Mark = "budcluster.io/retired"

// errElsewhere: whoever installed the agent has to remove it.
var errElsewhere = errors.New("remove the agent the way it was installed")

// The label on what an agent makes in its own namespace.
const ours = "app.kubernetes.io/managed-by=budcluster-agent"

// Object is one thing that is ours.
type Object struct {
	Resource  schema.GroupVersionResource
	Kind      string
	Namespace string // empty for what belongs to none
	Name      string
}

// String is Kind/namespace/name.
func (o Object) String() string {
	if o.Namespace == "" {
		return o.Kind + "/" + o.Name
	}
	return o.Kind + "/" + o.Namespace + "/" + o.Name
}

// InstallationConfig says where the agent is.
type InstallationConfig struct {
	Typed     kubernetes.Interface
	Metadata  metadata.Interface
	Discovery discovery.ServerResourcesInterface
	// Manifest lists what the agent's own Helm release made; empty when Helm
	// has no record of it.
	Manifest func(ctx context.Context) ([]Object, error)
	// Namespace is the agent's own. Release, Deployment and Anchor name its Helm
	// release, its Deployment, and the ClusterRole that is deleted last; empty in
	// development.
	Namespace, Release, Deployment, Anchor string
	// Lease is the leader's.
	Lease  string
	Logger *slog.Logger
}

// Installation is the agent as it lies in its cluster.
type Installation struct{ cfg InstallationConfig }

// NewInstallation checks the configuration. It contacts nobody.
func NewInstallation(cfg InstallationConfig) (*Installation, error) {
	if cfg.Typed == nil || cfg.Metadata == nil || cfg.Discovery == nil || cfg.Manifest == nil || cfg.Namespace == "" || cfg.Logger == nil {
		return nil, errors.New("retire: clients, a manifest, a namespace and a logger are needed")
	}
	return &Installation{cfg: cfg}, nil
}

// Leaving reports whether this agent, or the one before it, has begun to
// leave: then nothing may be made any more.
func (i *Installation) Leaving(ctx context.Context) (bool, error) {
	if i.cfg.Deployment == "" {
		return false, nil
	}
	d, err := i.cfg.Typed.AppsV1().Deployments(i.cfg.Namespace).Get(ctx, i.cfg.Deployment, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return true, nil
	case apierrors.IsForbidden(err): // without that right it can leave no mark either
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look at the agent's own deployment: %w", err)
	}
	return d.Annotations[Mark] != "" || d.DeletionTimestamp != nil, nil
}

// Rehearse does all that Leave does as a dry run, and returns a sentence for
// each thing that would stay.
func (i *Installation) Rehearse(ctx context.Context) []string {
	left, err := i.leave(ctx, true)
	if err != nil {
		left = append(left, "the agent itself stays: "+err.Error())
	}
	return left
}

// Leave removes the agent: it returns when ctx ends, which is when its own pod
// is told to stop.
func (i *Installation) Leave(ctx context.Context) error {
	retry := backoff.New(time.Second, 30*time.Second)
	for {
		left, err := i.leave(ctx, false)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // that is why it ended
		}
		for _, text := range left {
			i.cfg.Logger.WarnContext(ctx, "something stays behind", slog.String(logkey.Message, text))
		}
		switch {
		case errors.Is(err, errElsewhere):
			i.cfg.Logger.WarnContext(ctx, "the agent cannot remove itself", slog.Any(logkey.Error, err))
			<-ctx.Done()
			return nil
		case err == nil:
			i.cfg.Logger.InfoContext(ctx, "the agent has left; the garbage collector removes what it made")
			<-ctx.Done()
			return nil
		}
		wait := retry.Next()
		i.cfg.Logger.WarnContext(ctx, "the agent cannot leave yet", slog.Any(logkey.Error, err), slog.Duration(logkey.RetryAfter, wait))
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// leave gives everything of ours to the anchor and deletes that.
func (i *Installation) leave(ctx context.Context, dry bool) (left []string, err error) {
	anchor, err := i.anchor(ctx)
	if err != nil || anchor == nil {
		return left, err
	}
	objects, left, err := i.objects(ctx)
	if err != nil {
		return left, err
	}
	for _, o := range objects {
		if err := i.bind(ctx, o, anchor, dry); err != nil {
			if !permanent(err) {
				return left, err
			}
			left = append(left, fmt.Sprintf("%s stays: %v", o, err))
		}
	}
	background := metav1.DeletePropagationBackground
	opts := metav1.DeleteOptions{PropagationPolicy: &background, Preconditions: &metav1.Preconditions{UID: &anchor.UID}}
	if dry {
		opts.DryRun = []string{metav1.DryRunAll}
	}
	err = i.cfg.Typed.RbacV1().ClusterRoles().Delete(ctx, anchor.Name, opts)
	if err != nil && !apierrors.IsNotFound(err) {
		return left, fmt.Errorf("delete cluster role %s: %w", anchor.Name, err)
	}
	return left, nil
}

// permanent: trying again would not help.
func permanent(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsInvalid(err) || apierrors.IsMethodNotSupported(err)
}

// anchor finds the object that goes last; nil when it has gone already.
func (i *Installation) anchor(ctx context.Context) (*rbacv1.ClusterRole, error) {
	if i.cfg.Anchor == "" {
		return nil, fmt.Errorf("its chart made no roles (rbac.create), or it was not installed by its chart; %w", errElsewhere)
	}
	anchor, err := i.cfg.Typed.RbacV1().ClusterRoles().Get(ctx, i.cfg.Anchor, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		leaving, err := i.Leaving(ctx)
		if err == nil && !leaving {
			err = fmt.Errorf("cluster role %s is not there; %w", i.cfg.Anchor, errElsewhere)
		}
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("read cluster role %s: %w", i.cfg.Anchor, err)
	}
	return anchor, nil
}

// bind makes the anchor the owner of an object, and marks the Deployment.
// What has an owner already goes with that one.
func (i *Installation) bind(ctx context.Context, o Object, anchor *rbacv1.ClusterRole, dry bool) error {
	client := i.cfg.Metadata.Resource(o.Resource).Namespace(o.Namespace)
	have, err := client.Get(ctx, o.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && (have.DeletionTimestamp != nil || have.UID == anchor.UID) {
		return nil
	}
	if err != nil {
		return err
	}
	meta := map[string]any{"uid": have.UID, "resourceVersion": have.ResourceVersion}
	if len(have.OwnerReferences) == 0 {
		meta["ownerReferences"] = []metav1.OwnerReference{{
			APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRole", Name: anchor.Name, UID: anchor.UID,
		}}
	}
	if o.Kind == "Deployment" && o.Name == i.cfg.Deployment {
		meta["annotations"] = map[string]string{Mark: time.Now().UTC().Format(time.RFC3339)}
	}
	if len(meta) == 2 {
		return nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": meta})
	if err != nil {
		return err
	}
	opts := metav1.PatchOptions{FieldManager: "budcluster-agent"}
	if dry {
		opts.DryRun = []string{metav1.DryRunAll}
	}
	_, err = client.Patch(ctx, o.Name, types.MergePatchType, patch, opts)
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// objects lists what is ours, the Deployment first: its mark stops everybody
// else.
func (i *Installation) objects(ctx context.Context) (objects []Object, left []string, err error) {
	manifest, err := i.cfg.Manifest(ctx)
	if err != nil {
		return nil, nil, err
	}
	if len(manifest) == 0 {
		return nil, nil, fmt.Errorf("helm has no record of release %s in namespace %s; %w", i.cfg.Release, i.cfg.Namespace, errElsewhere)
	}
	objects = slices.Clone(manifest)
	made, err := i.made(ctx)
	if err != nil {
		return nil, nil, err
	}
	objects = append(objects, made...)
	definition, why, err := i.definition(ctx)
	if err != nil {
		return nil, nil, err
	}
	if why != "" {
		left = append(left, why)
	} else {
		objects = append(objects, definition)
	}
	namespace, why, err := i.namespace(ctx, objects)
	if err != nil {
		return nil, nil, err
	}
	if why != "" {
		left = append(left, why)
	}
	objects = append(objects, namespace...)
	slices.SortStableFunc(objects, func(a, b Object) int { return rank(a) - rank(b) })
	return objects, left, nil
}

func rank(o Object) int {
	if o.Kind == "Deployment" {
		return 0
	}
	return 1
}

// made lists what the agent and Helm put into our namespace beside the chart.
func (i *Installation) made(ctx context.Context) ([]Object, error) {
	var out []Object
	for _, k := range []struct {
		gvr            schema.GroupVersionResource
		kind, selector string
	}{
		{schema.GroupVersionResource{Version: "v1", Resource: "secrets"}, "Secret", ours},
		{schema.GroupVersionResource{Version: "v1", Resource: "secrets"}, "Secret", "owner=helm,name=" + i.cfg.Release},
		{schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}, "ConfigMap", ours},
		{schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}, "Lease", ours},
	} {
		list, err := i.cfg.Metadata.Resource(k.gvr).Namespace(i.cfg.Namespace).List(ctx, metav1.ListOptions{LabelSelector: k.selector})
		if err != nil {
			return nil, fmt.Errorf("list what the agent made: %w", err)
		}
		for n := range list.Items {
			out = append(out, Object{Resource: k.gvr, Kind: k.kind, Namespace: i.cfg.Namespace, Name: list.Items[n].Name})
		}
	}
	if i.cfg.Lease != "" {
		out = append(out, Object{
			Resource: schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}, Kind: "Lease",
			Namespace: i.cfg.Namespace, Name: i.cfg.Lease,
		})
	}
	return out, nil
}

// others names the agents of other hubs that live in this cluster.
func (i *Installation) others(ctx context.Context) (string, error) {
	list, err := i.cfg.Typed.AppsV1().Deployments(metav1.NamespaceAll).List(ctx, metav1.ListOptions{
		LabelSelector: "app.kubernetes.io/part-of=budcluster,app.kubernetes.io/component=agent",
	})
	if err != nil {
		return "", fmt.Errorf("look for agents of other hubs: %w", err)
	}
	var names []string
	for n := range list.Items {
		if d := &list.Items[n]; d.Namespace != i.cfg.Namespace || d.Name != i.cfg.Deployment {
			names = append(names, d.Namespace+"/"+d.Name)
		}
	}
	return strings.Join(names, ", "), nil
}
