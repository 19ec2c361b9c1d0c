package bootstrap_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/bootstrap"
	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/enroll"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/operation"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/secret"
)

// office is the hub around an Onboarder.
type office struct {
	known      map[string]enroll.Member
	registered []string
	cancelled  []string
	tokens     int
}

func (o *office) Register(_ context.Context, _ string, r operation.Register) (*workflow.Workflow, *cluster.Cluster, error) {
	o.registered = append(o.registered, r.Name)
	return &workflow.Workflow{ID: uuid.New()}, &cluster.Cluster{ID: uuid.New(), Name: r.Name}, nil
}

func (o *office) CreateToken(context.Context, string, uuid.UUID, enroll.TokenOptions) (enroll.Token, secret.String, error) {
	o.tokens++
	return enroll.Token{}, secret.New("bud1.x"), nil
}

func (o *office) Cancel(_ context.Context, _, ref string) (*workflow.Workflow, error) {
	o.cancelled = append(o.cancelled, ref)
	return nil, nil //nolint:nilnil // nobody looks at it
}

func (o *office) find(_ context.Context, uid string) (enroll.Member, error) {
	if m, ok := o.known[uid]; ok {
		return m, nil
	}
	return enroll.Member{}, enroll.ErrNoCluster
}

func onboarder(t *testing.T, o *office) *bootstrap.Onboarder {
	t.Helper()
	i, _ := installer(t, nil)
	out, err := bootstrap.NewOnboarder(bootstrap.OnboarderConfig{
		Installer: i, Registrar: o, Tokens: o, Workflows: o, Known: o.find, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	return out
}

func TestOnboard(t *testing.T) {
	t.Parallel()
	o := &office{}
	w, err := onboarder(t, o).Onboard(t.Context(), "ada", bootstrap.Request{Kubeconfig: kubeconfig("fine")}, operation.Register{Name: "frankfurt"})
	require.NoError(t, err)
	require.NotNil(t, w)
	require.Equal(t, []string{"frankfurt"}, o.registered)
	require.Equal(t, 1, o.tokens)
	require.Empty(t, o.cancelled)
}

// TestOnboardLeavesNothing: what fails has made nothing, or what it made is
// taken back.
func TestOnboardLeavesNothing(t *testing.T) {
	t.Parallel()
	o := &office{}
	_, err := onboarder(t, o).Onboard(t.Context(), "ada", bootstrap.Request{Kubeconfig: kubeconfig("refused")}, operation.Register{Name: "frankfurt"})
	var failed *bootstrap.Error
	require.ErrorAs(t, err, &failed)
	require.Len(t, o.registered, 1)
	require.Len(t, o.cancelled, 1, "the registration is ended, and takes back what it did")

	o = &office{}
	_, err = onboarder(t, o).Onboard(t.Context(), "ada", bootstrap.Request{Kubeconfig: kubeconfig("foreign")}, operation.Register{Name: "frankfurt"})
	require.ErrorAs(t, err, &failed)
	require.Empty(t, o.registered)
}

// TestOnboardKnowsItsClusters: one Kubernetes cluster is in the register once.
func TestOnboardKnowsItsClusters(t *testing.T) {
	t.Parallel()
	o := &office{known: map[string]enroll.Member{uid: {Name: "frankfurt"}}}
	on := onboarder(t, o)
	_, err := on.Onboard(t.Context(), "ada", bootstrap.Request{Kubeconfig: kubeconfig("fine")}, operation.Register{Name: "berlin"})
	require.Len(t, invalid.Of(err), 1)
	require.Contains(t, err.Error(), `"frankfurt"`)
	_, err = on.Onboard(t.Context(), "ada", bootstrap.Request{Kubeconfig: kubeconfig("fine")}, operation.Register{Name: "frankfurt"})
	require.Error(t, err)
	require.Empty(t, o.registered)
	_, err = on.Onboard(t.Context(), "ada", bootstrap.Request{Kubeconfig: kubeconfig("fine")}, operation.Register{Name: "frankfurt", Existing: true})
	require.NoError(t, err)
}
