package retire

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/budecosystem/budcluster/agent/api/v1alpha1"
	"github.com/budecosystem/budcluster/agent/internal/kube"
)

// maxNamed bounds how many of a namespace's residents a sentence names.
const maxNamed = 3

// definition is our custom resource definition, unless another agent needs it.
func (i *Installation) definition(ctx context.Context) (o Object, why string, err error) {
	o = Object{
		Resource: schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"},
		Kind:     "CustomResourceDefinition", Name: v1alpha1.CRDName,
	}
	others, err := i.others(ctx)
	if err != nil {
		return o, "", err
	}
	if others != "" {
		return o, fmt.Sprintf("%s stays: the agent %s of another hub uses it", o, others), nil
	}
	list, err := i.cfg.Metadata.Resource(v1alpha1.GroupVersionResource()).List(ctx, metav1.ListOptions{})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err) {
		return o, "", fmt.Errorf("look for releases of other agents: %w", err)
	}
	if err == nil {
		for n := range list.Items {
			if r := &list.Items[n]; r.Namespace != i.cfg.Namespace {
				return o, fmt.Sprintf("%s stays: Release %s/%s is another agent's", o, r.Namespace, r.Name), nil
			}
		}
	}
	return o, "", nil
}

// namespace is our own, if it was made for the agent and nobody else lives
// there. One that was there before is not ours, and no word is lost about it.
func (i *Installation) namespace(ctx context.Context, objects []Object) (own []Object, why string, err error) {
	name := i.cfg.Namespace
	o := Object{Resource: schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}, Kind: "Namespace", Name: name}
	ns, err := i.cfg.Typed.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsForbidden(err):
		return nil, fmt.Sprintf("%s stays: the agent may not look at it", o), nil
	case err != nil:
		return nil, "", fmt.Errorf("read namespace %s: %w", name, err)
	// Helm's --create-namespace labels a namespace with its own name; a hub that
	// installs the agent annotates it.
	case ns.Labels["name"] != name && ns.Annotations[kube.MadeBy] == "", name == "default", strings.HasPrefix(name, "kube-"):
		return nil, "", nil
	}
	residents, err := kube.Residents(ctx, i.cfg.Discovery, i.cfg.Metadata, name)
	if err != nil {
		return nil, "", err
	}
	known := map[string]bool{}
	for _, own := range objects {
		known[own.Kind+"/"+own.Name] = own.Namespace == name || known[own.Kind+"/"+own.Name]
	}
	var strangers []string
	for _, r := range residents {
		if !known[r.String()] && r.Resource.Group != v1alpha1.Group {
			strangers = append(strangers, r.String())
		}
	}
	if len(strangers) == 0 {
		return []Object{o}, "", nil
	}
	text := strings.Join(strangers[:min(len(strangers), maxNamed)], ", ")
	if n := len(strangers) - maxNamed; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return nil, fmt.Sprintf("%s stays: %s lives there too", o, text), nil
}
