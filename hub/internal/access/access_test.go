package access_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/access"
	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/store"
	"github.com/budecosystem/budcluster/hub/internal/store/storetest"
	"github.com/budecosystem/budcluster/internal/testutil"
)

type bundle struct {
	*access.Service
	store *store.Store
	now   time.Time
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{store: storetest.New(t), now: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)}
	var err error
	b.Service, err = access.New(access.Config{Store: b.store, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return b.now }})
	require.NoError(t, err)
	return b
}

func TestRoles(t *testing.T) {
	t.Parallel()
	for i, has := range access.Roles() {
		for j, need := range access.Roles() {
			require.Equal(t, i >= j, has.Allows(need), "%s for %s", has, need)
		}
		require.False(t, has.Allows("nonsense"))
		require.False(t, access.Role("nonsense").Allows(has))
	}
	require.False(t, access.Role("").Allows(""))
}

func TestKeys(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	k, text, err := b.CreateKey(ctx, "hub", "ops", access.RoleOperator)
	require.NoError(t, err)
	require.Regexp(t, `^budk_[a-z2-7]{16}_[a-z2-7]{52}$`, text.Reveal())
	require.NotContains(t, fmt.Sprint(k, text), strings.Split(text.Reveal(), "_")[2])

	who, err := b.Authenticate(ctx, text.Reveal())
	require.NoError(t, err)
	require.Equal(t, access.Principal{Name: "ops", Role: access.RoleOperator}, who)

	used := func() time.Time {
		keys, err := b.Keys(ctx)
		require.NoError(t, err)
		require.Len(t, keys, 1)
		return *keys[0].LastUsedAt
	}
	first := b.now
	b.now = b.now.Add(59 * time.Second)
	_, err = b.Authenticate(ctx, text.Reveal())
	require.NoError(t, err)
	require.Equal(t, first, used(), "written down at most once a minute")
	b.now = b.now.Add(time.Second)
	_, err = b.Authenticate(ctx, text.Reveal())
	require.NoError(t, err)
	require.Equal(t, b.now, used())

	_, _, err = b.CreateKey(ctx, "hub", "ops", access.RoleViewer)
	require.ErrorIs(t, err, access.ErrExists)
	require.NoError(t, b.RevokeKey(ctx, "hub", k.ID))
	require.ErrorIs(t, b.RevokeKey(ctx, "hub", k.ID), access.ErrNotFound)
	require.ErrorIs(t, b.RevokeKey(ctx, "hub", "a\x00b"), access.ErrNotFound)
	_, err = b.Authenticate(ctx, text.Reveal())
	require.ErrorIs(t, err, access.ErrDenied)
	_, _, err = b.CreateKey(ctx, "hub", "ops", access.RoleViewer)
	require.NoError(t, err, "the name is free again")

	events, err := b.store.EventList(ctx, event.Filter{Limit: 10})
	require.NoError(t, err)
	require.Len(t, events, 3)
}

func TestWrongKeys(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, text, err := b.CreateKey(t.Context(), "hub", "ops", access.RoleAdmin)
	require.NoError(t, err)
	parts := strings.Split(text.Reveal(), "_")
	last := map[bool]string{true: "b", false: "a"}[strings.HasSuffix(parts[2], "a")]
	for _, presented := range []string{
		"", "budk", "budk__", "budk_a_b", "Bearer " + text.Reveal(), text.Reveal() + "a", text.Reveal()[:40],
		strings.ToUpper(text.Reveal()), parts[0] + "_" + parts[1] + "_" + parts[2][:51] + last,
		parts[0] + "_" + strings.Repeat("a", 16) + "_" + parts[2], "budk_\x00_x", strings.Repeat("budk_", 1000),
	} {
		_, err := b.Authenticate(t.Context(), presented)
		require.ErrorIs(t, err, access.ErrDenied, presented)
	}
}

func TestErrorsThatUsersSee(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var seen strings.Builder
	for name, role := range map[string]access.Role{"": access.RoleAdmin, "a b": "root"} {
		_, _, err := b.CreateKey(t.Context(), "hub", name, role)
		require.NotEmpty(t, invalid.Of(err))
	}
	_, _, err := b.CreateKey(t.Context(), "hub", "a b", "root")
	fmt.Fprintln(&seen, err)
	_, _, err = b.CreateKey(t.Context(), "hub", "ops", access.RoleViewer)
	require.NoError(t, err)
	_, _, err = b.CreateKey(t.Context(), "hub", "ops", access.RoleViewer)
	fmt.Fprintln(&seen, err)
	_, err = b.Authenticate(t.Context(), "nonsense")
	fmt.Fprintln(&seen, err)
	fmt.Fprintln(&seen, b.RevokeKey(t.Context(), "hub", "nonsense"))
	testutil.Golden(t, "errors", []byte(seen.String()))
}

func FuzzAuthenticate(f *testing.F) {
	f.Add("budk_aaaa_bbbb")
	f.Add("")
	f.Add("budk_a_b_c")
	svc, err := access.New(access.Config{Store: nothing{}, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, presented string) {
		_, err := svc.Authenticate(t.Context(), presented)
		require.ErrorIs(t, err, access.ErrDenied)
	})
}

// nothing is a Store that has no key.
type nothing struct{ access.Store }

func (nothing) KeyByID(context.Context, string) (access.Key, [32]byte, error) {
	return access.Key{}, [32]byte{}, access.ErrNotFound
}
