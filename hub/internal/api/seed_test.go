package api_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/apitest"
	"github.com/budecosystem/budcluster/hub/internal/cluster"
)

// seed enters a cluster in each state.
func seed(h *apitest.Hub) {
	h.SetNode(h.AddCluster("edge"), apitest.Node("n1", 1))
	h.Leave(h.AddCluster("away"), 5*time.Minute)
	h.Change(h.AddCluster("new"), func(c *cluster.Cluster) { c.JoinedAt, c.LastSeen, c.Session = nil, nil, nil })
	h.Change(h.AddCluster("revoked"), func(c *cluster.Cluster) {
		now := apitest.Now()
		c.RevokedAt, c.Session = &now, nil
	})
}

// withRelease puts a release into edge.
func withRelease(h *apitest.Hub) {
	req, err := http.NewRequest(http.MethodPut, h.URL+"/v1/clusters/edge/releases/app", strings.NewReader(`{"namespace":"x","chart":{"path":"app"}}`))
	if err != nil {
		panic(err)
	}
	req.Header.Set("Authorization", "Bearer "+apitest.AdminKey)
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusCreated {
		panic("release was not created")
	}
	_ = resp.Body.Close()
}

// withWebhook makes a webhook.
func withWebhook(h *apitest.Hub) {
	req, err := http.NewRequest(http.MethodPost, h.URL+"/v1/webhooks", strings.NewReader(`{"name":"pager","url":"https://ops.example.com/in"}`))
	if err != nil {
		panic(err)
	}
	req.Header.Set("Authorization", "Bearer "+apitest.AdminKey)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusCreated {
		panic("webhook was not created")
	}
	_ = resp.Body.Close()
}

func writeChart(t *testing.T, dir string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "app"), 0o750))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "app", "Chart.yaml"), []byte("apiVersion: v2\nname: app\nversion: 1.0.0\n"), 0o600))
}
