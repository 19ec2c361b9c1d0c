package presence

import (
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/cache"

	"github.com/budecosystem/budcluster/internal/facts"
)

const (
	labelVersion        = "app.kubernetes.io/version"
	annotationRelease   = "meta.helm.sh/release-name"
	annotationReleaseNS = "meta.helm.sh/release-namespace"
	labelHelmOwner      = "owner"
	statusDeployed      = "deployed"
)

// sighting is what is kept of an object.
type sighting struct {
	record    string // the Secret's name, for Helm's records
	namespace string
	object    string
	labels    labels.Set
	version   string
	ready     *bool
	release   string
	releaseNS string
	// revision and status are those of Helm's records; 0 for anything else.
	revision int
	status   string
}

func (o sighting) key() string { return o.namespace + "/" + o.object + "/" + o.record }

func (o sighting) matches(q question) bool {
	return (q.Namespace == "" || q.Namespace == o.namespace) && facts.MatchObject(q.Object, o.object) && q.selector.Matches(o.labels)
}

func (o sighting) presence(q question) facts.Presence {
	return facts.Presence{
		Probe: q.Name, State: facts.PresenceFound, Kind: q.Kind, Namespace: o.namespace, Object: o.object,
		Version: o.version, Ready: o.ready, Release: o.release, ReleaseNamespace: o.releaseNS,
	}
}

// same: nobody would see a difference.
func (o sighting) same(p sighting) bool {
	ready := (o.ready == nil) == (p.ready == nil) && (o.ready == nil || *o.ready == *p.ready)
	return ready && o.version == p.version && o.release == p.release && o.releaseNS == p.releaseNS &&
		o.status == p.status && labels.Equals(o.labels, p.labels)
}

// slim makes sightings of objects at once, so that no list of whole ones is
// held while it gathers.
func slim(obj any) (any, error) {
	if _, tomb := obj.(cache.DeletedFinalStateUnknown); tomb {
		return obj, nil
	}
	meta, ok := obj.(metav1.Object)
	if !ok {
		return obj, nil
	}
	o := ofObject(meta)
	switch x := obj.(type) {
	case *appsv1.Deployment:
		o.ready = ready(x.Status.ObservedGeneration >= x.Generation, x.Status.ReadyReplicas, replicas(x.Spec.Replicas))
		o.version = version(o.version, x.Spec.Template.Spec)
	case *appsv1.StatefulSet:
		o.ready = ready(x.Status.ObservedGeneration >= x.Generation, x.Status.ReadyReplicas, replicas(x.Spec.Replicas))
		o.version = version(o.version, x.Spec.Template.Spec)
	case *appsv1.DaemonSet:
		o.ready = ready(x.Status.ObservedGeneration >= x.Generation, x.Status.NumberReady, x.Status.DesiredNumberScheduled)
		o.version = version(o.version, x.Spec.Template.Spec)
	case *metav1.PartialObjectMetadata:
		o = ofRecord(o, x)
	}
	return &slimmed{ObjectMeta: metav1.ObjectMeta{
		Namespace: meta.GetNamespace(), Name: meta.GetName(), ResourceVersion: meta.GetResourceVersion(),
	}, sighting: o}, nil
}

// slimmed is a sighting with what a reflector knows an object by.
type slimmed struct {
	metav1.ObjectMeta
	sighting
}

func sightingOf(obj any) (sighting, bool) {
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj
	}
	if s, ok := obj.(*slimmed); ok {
		return s.sighting, true
	}
	whole, err := slim(obj)
	if err != nil {
		return sighting{}, false
	}
	s, ok := whole.(*slimmed)
	if !ok {
		return sighting{}, false
	}
	return s.sighting, true
}

func ofObject(meta metav1.Object) sighting {
	annotations := meta.GetAnnotations()
	return sighting{
		namespace: meta.GetNamespace(), object: meta.GetName(), labels: labels.Set(meta.GetLabels()), version: meta.GetLabels()[labelVersion],
		release: annotations[annotationRelease], releaseNS: annotations[annotationReleaseNS],
	}
}

// ofRecord turns the metadata of one of Helm's Secrets into its release.
func ofRecord(o sighting, x *metav1.PartialObjectMetadata) sighting {
	revision, err := strconv.Atoi(x.Labels["version"])
	if x.Labels[labelHelmOwner] != "helm" || !strings.HasPrefix(x.Name, "sh.helm.release.v1.") || err != nil {
		return o
	}
	o.record, o.revision, o.status = x.Name, revision, x.Labels["status"]
	o.object, o.release, o.releaseNS = x.Labels["name"], x.Labels["name"], x.Namespace
	deployed := o.status == statusDeployed
	o.ready, o.version = &deployed, ""
	return o
}

func ready(observed bool, have, want int32) *bool {
	yes := observed && have >= want
	return &yes
}

func replicas(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}

// version is the label's, else the tag of the first container's image.
func version(label string, pod corev1.PodSpec) string {
	if label != "" || len(pod.Containers) == 0 {
		return label
	}
	image, _, _ := strings.Cut(pod.Containers[0].Image, "@")
	name := image[strings.LastIndex(image, "/")+1:]
	_, tag, _ := strings.Cut(name, ":")
	return tag
}
