package charts_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/budecosystem/budcluster/agent/agenttest"
)

// TestServerLetsTheAgentHandOutWhatItGrants asks a real API server, whose rules
// on escalation these roles are made for: with a component's switch the agent
// may make the roles of its charts, and without it may not.
func TestServerLetsTheAgentHandOutWhatItGrants(t *testing.T) {
	t.Parallel()
	kube, err := agenttest.StartKube()
	require.NoError(t, err)
	t.Cleanup(kube.Stop)
	admin := kube.Client(t)

	all := entries(t)
	for _, on := range []bool{false, true} {
		var switches strings.Builder
		for _, e := range all {
			fmt.Fprintf(&switches, "%s: %t, ", e.Name, on)
		}
		name := fmt.Sprintf("granted-%t", on)
		agent := grant(t, admin, kube.Config(), name, "rbac: {components: {"+switches.String()+"}}")
		for _, e := range all {
			var role rbacv1.ClusterRole
			role.Name = name + "-" + e.Name
			for _, rule := range e.RBAC.Rules {
				if handsOut(rule.PolicyRule) {
					role.Rules = append(role.Rules, rule.PolicyRule)
				}
			}
			if len(role.Rules) > 0 {
				_, err := agent.RbacV1().ClusterRoles().Create(t.Context(), &role, metav1.CreateOptions{})
				judge(t, on, err, role.Name)
			}
			for i, bound := range binds(e) {
				_, err := agent.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
					ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", role.Name, i)},
					RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: bound},
					Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: "default", Name: "somebody"}},
				}, metav1.CreateOptions{})
				if !apierrors.IsNotFound(err) { // a role of OpenShift's
					judge(t, on, err, role.Name+" binds "+bound)
				}
			}
		}
		// And nothing opens the door to everything.
		_, err := agent.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: name + "-admin"},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		}, metav1.CreateOptions{})
		require.True(t, apierrors.IsForbidden(err), "%v", err)
	}
}

func judge(t *testing.T, on bool, err error, what string) {
	t.Helper()
	if on {
		require.NoError(t, err, what)
		return
	}
	require.True(t, apierrors.IsForbidden(err), "%s: %v", what, err)
}

// grant makes the roles of the agent's chart, and gives a client that may do
// what they say.
func grant(t *testing.T, admin kubernetes.Interface, config *rest.Config, name, text string) kubernetes.Interface {
	t.Helper()
	files, err := render(t, values(t, minimal+"fullnameOverride: "+name+"\n"+text))
	require.NoError(t, err)
	for _, o := range objects(t, files) {
		create(t.Context(), t, admin, o)
	}
	config.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:" + namespace + ":" + name}
	agent, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	return agent
}

func create(ctx context.Context, t *testing.T, admin kubernetes.Interface, o *unstructured.Unstructured) {
	t.Helper()
	var err error
	switch o.GetKind() {
	case "ClusterRole":
		var role rbacv1.ClusterRole
		require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &role))
		_, err = admin.RbacV1().ClusterRoles().Create(ctx, &role, metav1.CreateOptions{})
	case "ClusterRoleBinding":
		var binding rbacv1.ClusterRoleBinding
		require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &binding))
		_, err = admin.RbacV1().ClusterRoleBindings().Create(ctx, &binding, metav1.CreateOptions{})
	}
	require.NoError(t, err, o.GetName())
}

// handsOut: the right is one that a role of the charts has, and not one that
// only the agent uses, to bind a role or to remove a namespace.
func handsOut(rule rbacv1.PolicyRule) bool {
	return len(rule.Verbs) > 1 || rule.Verbs[0] != "bind" && rule.Verbs[0] != "delete"
}

// binds are the roles of the cluster's own that a component binds.
func binds(e entry) []string {
	var names []string
	for _, rule := range e.RBAC.Rules {
		if rule.Verbs[0] == "bind" {
			names = append(names, rule.ResourceNames...)
		}
	}
	return names
}
