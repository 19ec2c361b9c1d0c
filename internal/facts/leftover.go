package facts

import (
	"fmt"
	"strings"
)

// The kinds of leftovers about which there are rules of their own.
const (
	KindDefinition = "CustomResourceDefinition"
	KindNamespace  = "Namespace"
)

// MaxLeftovers bounds what one release may name.
const MaxLeftovers = 100

// String names it, for people.
func (l Leftover) String() string {
	text := l.Kind + " " + l.Object
	if l.Object == "" {
		text = l.Kind + " with " + l.Selector
	}
	if l.Namespace != "" {
		text += " in namespace " + l.Namespace
	}
	return text
}

// Check says in a sentence why a leftover of a release in the namespace may
// not be removed, whoever asks for it; nil when it may.
func (l Leftover) Check(namespace string) error {
	group, _, _ := strings.Cut(l.APIVersion, "/")
	pattern := l.Object == "" || strings.Contains(l.Object, "*")
	switch {
	case l.Object == "" && l.Selector == "":
		return fmt.Errorf("%s has neither object nor selector, so it would mean all of them; name one", l.Kind)
	case strings.Trim(l.Object, "*") == "" && l.Object != "" && l.Selector == "":
		return fmt.Errorf("%s would mean all of them; name what is meant", l)
	case group == "budcluster.io" || l.Kind == KindDefinition && strings.HasSuffix(l.Object, ".budcluster.io"):
		return fmt.Errorf("%s is the agent's own; a release cannot leave it behind", l)
	case l.Kind == "Node" || l.Kind == "PersistentVolume":
		return fmt.Errorf("%s is never a leftover: nodes and data stay; remove it by hand", l)
	case l.Kind == KindNamespace && (pattern || !l.IfUnused || systemNamespace(l.Object)):
		return fmt.Errorf("%s can only be removed by its whole name, with ifUnused, and not if it is Kubernetes's own", l)
	case l.Kind == KindDefinition && pattern:
		return fmt.Errorf("%s can only be removed by its whole name: its objects go with it", l)
	case systemNamespace(l.Namespace) && pattern && l.Namespace != namespace:
		return fmt.Errorf("%s lies among what is Kubernetes's own; there, give the whole name", l)
	}
	return nil
}

// systemNamespace: what every cluster has, or what its distribution made.
func systemNamespace(name string) bool {
	return name == "default" || strings.HasPrefix(name, "kube-") || strings.HasPrefix(name, "openshift")
}

// Empty says that there is nothing to take off.
func (m NodeMarks) Empty() bool { return len(m.Labels) == 0 && len(m.Annotations) == 0 }

// Check says in a sentence which pattern would take off what is not a
// component's: a prefix with a domain must be given.
func (m NodeMarks) Check() error {
	for _, list := range [][]string{m.Labels, m.Annotations} {
		for _, pattern := range list {
			domain, _, found := strings.Cut(pattern, "/")
			switch {
			case !found || domain == "" || strings.Contains(domain, "*"):
				return fmt.Errorf("the mark %q has no whole domain; give one such as nfd.example.com/*", pattern)
			case (domain == "kubernetes.io" || domain == "k8s.io" || strings.HasSuffix(domain, ".kubernetes.io") || strings.HasSuffix(domain, ".k8s.io")) && !discovery(domain):
				return fmt.Errorf("the mark %q is Kubernetes's own", pattern)
			case domain == "budcluster.io":
				return fmt.Errorf("the mark %q is the agent's own", pattern)
			}
		}
	}
	return nil
}

// discovery: node feature discovery writes under Kubernetes's domain.
func discovery(domain string) bool {
	return domain == "feature.node.kubernetes.io" || domain == "nfd.node.kubernetes.io"
}
