package agenttest_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/budecosystem/budcluster/agent/agenttest"
)

var kube *agenttest.Kube

func TestMain(m *testing.M) {
	os.Exit(agenttest.RunWithKube(m, func(k *agenttest.Kube) { kube = k }))
}

// TestKubeComesBack stops and starts the API server: data and port stay.
func TestKubeComesBack(t *testing.T) { //nolint:paralleltest // takes the API server away from everybody
	ns := kube.Namespace(t)
	kube.StopServer()
	_, err := kube.Client(t).CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{})
	require.Error(t, err)
	require.NoError(t, kube.StartServer())
	_, err = kube.Client(t).CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{})
	require.NoError(t, err)
}
