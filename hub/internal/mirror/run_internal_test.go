package mirror

import (
	"context"
	"encoding/json"
	"strconv"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

// registrations is a record of many, given a page at a time.
type registrations []*workflow.Workflow

func (r registrations) List(_ context.Context, f workflow.Filter, p page.Page) ([]*workflow.Workflow, string, error) {
	if f.Kind != workflow.RegisterCluster {
		return nil, "", nil
	}
	from, _ := strconv.Atoi(p.Cursor)
	to := min(from+p.Limit, len(r))
	if to == len(r) {
		return r[from:to], "", nil
	}
	return r[from:to], strconv.Itoa(to), nil
}

// toldNobody is a table with no row in it.
type toldNobody struct{ Store }

func (toldNobody) MirrorList(context.Context) ([]*Told, error) { return nil, nil }

// What began while nobody ran is found, however long ago: on any page.
func TestEverythingIsAllPages(t *testing.T) {
	t.Parallel()
	var all registrations
	want := map[uuid.UUID]bool{}
	for i := range 2*page.MaxLimit + 1 {
		run := &workflow.Workflow{ClusterID: uuid.New()}
		if i%2 == 0 { // the others were asked for by people
			run.Reply, want[run.ClusterID] = json.RawMessage(`{"name": "Lab"}`), true
		}
		all = append(all, run)
	}
	f := &Follower{Service: &Service{cfg: Config{Store: toldNobody{}, Workflows: all}}}
	dirty := map[uuid.UUID]bool{}
	require.NoError(t, f.everything(t.Context(), dirty))
	require.Equal(t, want, dirty)
}
