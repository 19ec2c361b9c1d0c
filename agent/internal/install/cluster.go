package install

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/budecosystem/budcluster/agent/internal/helm"
	"github.com/budecosystem/budcluster/agent/internal/kube"
	"github.com/budecosystem/budcluster/internal/install"
	"github.com/budecosystem/budcluster/internal/pki"
)

var (
	versionForm = regexp.MustCompile(`^v[0-9]{1,3}\.[0-9]{1,4}\.[0-9A-Za-z.+-]{1,64}$`)
	uidForm     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
)

// cluster is the one of the kubeconfig.
type cluster struct {
	server  string
	clients *kube.Clients
	typed   kubernetes.Interface
	dynamic dynamic.Interface
	helm    *helm.Client
	checker *helm.Checker
	ref     helm.Ref
	hub     install.Hub
	now     func() time.Time
	// what this process did, and Undo takes back.
	done effects
}

func open(rc *rest.Config, req install.Request, now func() time.Time) (*cluster, error) {
	clients, err := kube.NewClients(rc)
	if err != nil {
		return nil, err
	}
	h, err := helm.New(helm.Config{REST: rc, Logger: slog.New(slog.DiscardHandler), Workers: 1})
	if err != nil {
		return nil, err
	}
	return &cluster{
		server: rc.Host, clients: clients, typed: clients.Typed, dynamic: clients.Dynamic, helm: h,
		checker: helm.NewChecker(clients.Typed), ref: helm.Ref{Namespace: req.Namespace, Name: req.Release}, hub: req.Hub, now: now,
	}, nil
}

// identify asks who the cluster is. From its success on the server is trusted
// to be an API server.
func (c *cluster) identify(ctx context.Context) (version, uid string, err error) {
	ctx, cancel := patience(ctx)
	defer cancel()
	if version, err = c.clients.Version(ctx); err != nil {
		return "", "", contact(c.server, err)
	}
	if !versionForm.MatchString(version) {
		return "", "", fail(install.NotKubernetes, "the server %s does not answer as an API server does; check host, port and path", c.server)
	}
	if uid, err = c.clients.ClusterUID(ctx); err != nil {
		return "", "", contact(c.server, err)
	}
	if !uidForm.MatchString(uid) {
		return "", "", fail(install.NotKubernetes, "the server %s does not answer as an API server does; check host, port and path", c.server)
	}
	return version, uid, nil
}

// right is something that an installation needs.
type right struct{ group, resource, verb, namespace string }

func (r right) String() string {
	if r.group == "" {
		return r.verb + " " + r.resource
	}
	return r.verb + " " + r.resource + "." + r.group
}

// rights lists what the agent's chart is made of.
func rights(namespace string) []right {
	const rbac = "rbac.authorization.k8s.io"
	return []right{
		{"", "namespaces", "create", ""},
		{rbac, "clusterroles", "create", ""},
		{rbac, "clusterrolebindings", "create", ""},
		{rbac, "roles", "create", namespace},
		{rbac, "rolebindings", "create", namespace},
		{"", "secrets", "create", namespace},
		{"", "configmaps", "create", namespace},
		{"", "services", "create", namespace},
		{"", "serviceaccounts", "create", namespace},
		{"apps", "deployments", "create", namespace},
		{"policy", "poddisruptionbudgets", "create", namespace},
		{"networking.k8s.io", "networkpolicies", "create", namespace},
	}
}

// allowed asks whether the credential may install: an administrator is known
// by one question, everybody else by a list.
func (c *cluster) allowed(ctx context.Context) error {
	ctx, cancel := patience(ctx)
	defer cancel()
	yes, err := c.may(ctx, right{"*", "*", "*", ""})
	if err != nil || yes {
		return err
	}
	var missing []string
	for _, r := range rights(c.ref.Namespace) {
		yes, err := c.may(ctx, r)
		if err != nil {
			return err
		}
		if !yes {
			missing = append(missing, r.String())
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fail(install.Forbidden, "the kubeconfig's user may not %s; installing the agent needs an administrator of the cluster", joined(missing))
}

func (c *cluster) may(ctx context.Context, r right) (bool, error) {
	review, err := c.typed.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &authorizationv1.ResourceAttributes{
			Group: r.group, Resource: r.resource, Verb: r.verb, Namespace: r.namespace,
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		return false, contact(c.server, err)
	}
	return review.Status.Allowed, nil
}

func joined(words []string) string {
	if last := len(words) - 1; last > 0 {
		return strings.Join(words[:last], ", ") + " and " + words[last]
	}
	return strings.Join(words, "")
}

// look reads what there is of an agent.
func (c *cluster) look(ctx context.Context) (present, error) {
	ctx, cancel := patience(ctx)
	defer cancel()
	var p present
	var err error
	if p.history, err = c.helm.History(ctx, c.ref); err != nil {
		return p, contact(c.server, err)
	}
	if last, ok := p.history.Latest(); ok {
		given, err := c.helm.Given(ctx, c.ref, last.Revision)
		if err != nil {
			return p, contact(c.server, err)
		}
		p.values, p.version = given.Values, given.AppVersion
	}
	if p.pins, err = c.pins(ctx); err != nil {
		return p, err
	}
	deployments, err := c.typed.AppsV1().Deployments(c.ref.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: "app.kubernetes.io/name=budcluster-agent,app.kubernetes.io/component=agent", Limit: 1,
	})
	if err != nil {
		return p, contact(c.server, err)
	}
	p.running = len(deployments.Items) > 0
	return p, nil
}

// pins names the authorities of the agent's identity.
func (c *cluster) pins(ctx context.Context) ([]string, error) {
	identity, err := c.typed.CoreV1().Secrets(c.ref.Namespace).Get(ctx, c.identity(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, contact(c.server, err)
	}
	certs, err := pki.DecodeCertificates(identity.Data["ca.crt"])
	if err != nil {
		return nil, nil //nolint:nilerr // an identity that nobody can use
	}
	var pins []string
	for _, cert := range certs {
		if pin := pki.Pin(cert); !slices.Contains(pins, pin) {
			pins = append(pins, pin)
		}
	}
	return pins, nil
}

// fullname is what the chart calls its objects.
func (c *cluster) fullname() string { return c.ref.Name }

// identity is the name of the Secret in which the agent keeps its identity.
func (c *cluster) identity() string { return c.fullname() + "-identity" }

// stopped says why an operation ended that was not cut by us.
func stopped(ctx context.Context, err error, secrets []string) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	if ctx.Err() != nil {
		return fail(install.TimedOut, "%s", clean(fmt.Sprintf("the installation was stopped: %v", context.Cause(ctx)), secrets))
	}
	return fail(install.NotInstalled, "%s", clean(helm.Sentence(err), secrets))
}
