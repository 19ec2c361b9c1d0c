package webhook_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/hub/internal/webhook"
	"github.com/budecosystem/budcluster/internal/secret"
)

func TestSign(t *testing.T) {
	t.Parallel()
	key := secret.New("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	got, err := webhook.Sign(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	require.NoError(t, err)
	require.Equal(t, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", got)
	for _, bad := range []string{"", "whsec_", "whsec_%", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"} {
		_, err := webhook.Sign(secret.New(bad), "m", time.Now(), nil)
		require.Error(t, err, bad)
	}
}

func TestRecords(t *testing.T) {
	t.Parallel()
	b := setup(t)
	to := newReceiver(t)
	w := b.hook(t, "ops", to, nil)
	require.Greater(t, len(to.key), 40)
	_, _, err := b.Create(t.Context(), "ann", webhook.Request{Name: "ops", URL: "https://example.com/"})
	require.ErrorIs(t, err, webhook.ErrExists)
	for _, ref := range []string{"ops", w.ID.String()} {
		got, err := b.Get(t.Context(), ref)
		require.NoError(t, err)
		require.Equal(t, w.ID, got.ID)
	}
	for _, ref := range []string{"", "nobody", uuid.NewString(), strings.Repeat("x", 100)} {
		_, err := b.Get(t.Context(), ref)
		require.ErrorIs(t, err, webhook.ErrNotFound, ref)
		require.ErrorIs(t, b.Delete(t.Context(), "ann", ref), webhook.ErrNotFound, ref)
	}
	all, err := b.List(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 1)

	d, err := b.Test(t.Context(), "ann", "ops")
	require.NoError(t, err)
	require.Equal(t, webhook.StatusSent, d.Status)
	require.Equal(t, []string{"ops"}, to.subjects())
	require.True(t, strings.HasPrefix(to.ids[0], "test_"))
	to.Close()
	d, err = b.Test(t.Context(), "ann", "ops")
	require.NoError(t, err)
	require.Equal(t, webhook.StatusDead, d.Status)
	require.Contains(t, d.Error, "connection refused")
	require.NotContains(t, d.Error, "/in", "the path may be a secret")

	require.NoError(t, b.Delete(t.Context(), "ann", "ops"))
	events, err := b.events.List(t.Context(), event.Filter{})
	require.NoError(t, err)
	require.Equal(t, event.WebhookCreated, events[0].Type)
	require.Equal(t, event.WebhookDeleted, events[len(events)-1].Type)
	raw, err := json.Marshal(events)
	require.NoError(t, err)
	require.NotContains(t, string(raw), "127.0.0.1", "no address in the record")
	require.NotContains(t, string(raw), to.key)
}

// The key is in the database only sealed, and bound to its webhook.
func TestSecretIsSealed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	to := newReceiver(t)
	w := b.hook(t, "ops", to, nil)
	var found bool
	require.NoError(t, b.pool.QueryRow(t.Context(), "SELECT position(convert_to($1, 'UTF8') in w.secret) > 0 OR w::text LIKE '%' || $1 || '%' FROM webhooks w",
		strings.TrimPrefix(to.key, "whsec_")).Scan(&found))
	require.False(t, found)
	other := b.hook(t, "other", to, nil)
	_, err := b.pool.Exec(t.Context(), "UPDATE webhooks SET secret = (SELECT secret FROM webhooks WHERE id = $1) WHERE id = $2", w.ID, other.ID)
	require.NoError(t, err)
	d, err := b.Test(t.Context(), "ann", "other")
	require.NoError(t, err)
	require.Contains(t, d.Error, "open the webhook's secret")
	require.Empty(t, to.subjects())
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, c := range map[string]struct {
		r      webhook.Request
		fields []string
	}{
		"nothing": {webhook.Request{}, []string{"name", "url"}},
		"name":    {webhook.Request{Name: "Ops!", URL: "https://example.com"}, []string{"name"}},
		"type":    {webhook.Request{Name: "a", URL: "https://example.com", Types: []string{"node.added", "no.such"}}, []string{"types"}},
	} {
		_, _, err := b.Create(t.Context(), "ann", c.r)
		var fields []string
		for _, fault := range invalid.Of(err) {
			fields = append(fields, fault.Field)
		}
		require.Equal(t, c.fields, fields, name)
	}
	_, _, err := b.Deliveries(t.Context(), "x", "no", page.Page{})
	require.Len(t, invalid.Of(err), 1)
	_, _, err = b.Deliveries(t.Context(), "x", "", page.Page{})
	require.ErrorIs(t, err, webhook.ErrNotFound)
	_, err = webhook.New(webhook.Config{})
	require.Error(t, err)

	for i := range 100 {
		_, _, err := b.Create(t.Context(), "ann", webhook.Request{Name: fmt.Sprintf("w%d", i), URL: "https://example.com"})
		require.NoError(t, err)
	}
	_, _, err = b.Create(t.Context(), "ann", webhook.Request{Name: "more", URL: "https://example.com"})
	require.ErrorContains(t, err, "100 webhooks already")
}

func TestDeliveriesInPages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	to := newReceiver(t)
	b.hook(t, "ops", to, nil)
	b.happen(t, event.NodeAdded, uuid.Nil, numbered(7)...)
	require.NoError(t, b.runner(t, nil).Turn(t.Context()))
	var seen []int64
	for p := (page.Page{Limit: 3}); ; {
		found, next, err := b.Deliveries(t.Context(), "ops", webhook.StatusSent, p)
		require.NoError(t, err)
		for _, d := range found {
			seen = append(seen, d.EventID)
			require.Equal(t, "node.added", d.Type)
			require.Equal(t, 1, d.Attempts)
		}
		if p.Cursor = next; next == "" {
			break
		}
	}
	require.Len(t, seen, 7)
	require.IsDecreasing(t, seen)
	_, _, err := b.Deliveries(t.Context(), "ops", "", page.Page{Cursor: page.Cursor("x")})
	require.Len(t, invalid.Of(err), 1)
}

func TestGuard(t *testing.T) {
	t.Parallel()
	public, err := webhook.NewGuard([]string{"10.20.0.0/16", "fd00:1::/32"}, false)
	require.NoError(t, err)
	dev, err := webhook.NewGuard(nil, true)
	require.NoError(t, err)
	for text, want := range map[string]struct{ public, dev bool }{
		"93.184.215.14":          {true, true},
		"2606:4700::1111":        {true, true},
		"127.0.0.1":              {false, true},
		"::1":                    {false, true},
		"::ffff:127.0.0.1":       {false, true},
		"10.20.3.4":              {true, false},
		"::ffff:10.20.3.4":       {true, false},
		"10.21.0.1":              {false, false},
		"fd00:1::5":              {true, false},
		"fd00:2::5":              {false, false},
		"169.254.169.254":        {false, false},
		"::ffff:169.254.169.254": {false, false},
		"64:ff9b::a9fe:a9fe":     {false, false},
		"2002:a9fe:a9fe::1":      {false, false},
		"172.16.0.1":             {false, false},
		"192.168.1.1":            {false, false},
		"100.64.0.1":             {false, false},
		"0.0.0.0":                {false, false},
		"::":                     {false, false},
		"224.0.0.1":              {false, false},
		"255.255.255.255":        {false, false},
		"fe80::1%eth0":           {false, false},
		"ff02::1":                {false, false},
		"198.18.0.1":             {false, false},
	} {
		addr := netip.MustParseAddr(text)
		require.Equal(t, want.public, public.Allow(addr) == nil, text)
		require.Equal(t, want.dev, dev.Allow(addr) == nil, text)
	}
	require.Error(t, public.Allow(netip.Addr{}))

	for address, want := range map[string]struct{ public, dev bool }{
		"https://example.com/in?x=1":           {true, true},
		"https://10.20.3.4:8443/":              {true, false},
		"http://example.com/":                  {false, false},
		"http://localhost:9000/in":             {false, true},
		"http://127.0.0.1/":                    {false, true},
		"http://[::1]:80/":                     {false, true},
		"https://localhost./":                  {false, true},
		"https://a.localhost/":                 {false, true},
		"https://169.254.169.254/":             {false, false},
		"https://[::ffff:10.0.0.1]/":           {false, false},
		"https://user:pw@example.com/":         {false, false},
		"https://example.com/#x":               {false, false},
		"https:///path":                        {false, false},
		"https:example.com":                    {false, false},
		"ftp://example.com/":                   {false, false},
		"://":                                  {false, false},
		"":                                     {false, false},
		"https://" + strings.Repeat("x", 3000): {false, false},
	} {
		require.Equal(t, want.public, public.Check(address) == nil, address)
		require.Equal(t, want.dev, dev.Check(address) == nil, address)
	}
	_, err = webhook.NewGuard([]string{"10.0.0.0", "x"}, false)
	require.ErrorContains(t, err, `"10.0.0.0" is not a network`)
	require.ErrorContains(t, err, `"x" is not a network`)
}

func FuzzGuard(f *testing.F) {
	for _, seed := range []string{"https://example.com/", "http://127.0.0.1", "https://[fe80::1%25eth0]/", "https://0x7f.1/", "https://2130706433/", "%"} {
		f.Add(seed)
	}
	guard, err := webhook.NewGuard(nil, false)
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, address string) {
		if err := guard.Check(address); err != nil {
			require.Len(t, invalid.Of(err), 1)
			return
		}
		require.True(t, strings.HasPrefix(strings.ToLower(address), "https:"))
	})
}
