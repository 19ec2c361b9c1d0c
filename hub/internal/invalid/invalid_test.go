package invalid_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/invalid"
)

func TestOf(t *testing.T) {
	t.Parallel()
	a, b := invalid.New("a", "%d is wrong", 1), invalid.New("b", "wrong")
	require.Equal(t, "a: 1 is wrong", a.Error())
	require.Equal(t, []*invalid.Error{a, b}, invalid.Of(fmt.Errorf("do: %w", errors.Join(a, fmt.Errorf("deeper: %w", b)))))
	require.Empty(t, invalid.Of(errors.New("broken")))
	require.Empty(t, invalid.Of(nil))
}

func TestClip(t *testing.T) {
	t.Parallel()
	require.Equal(t, "short", invalid.Clip("short"))
	require.Equal(t, strings.Repeat("ä", 80)+"…", invalid.Clip(strings.Repeat("ä", 81)))
}

// What may be a secret of an address is not shown, however it is written.
func TestClipURL(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"":                                  "",
		"https://host/path":                 "https://host/path",
		"https://user:hidden@host/path":     "https://…@host/path",
		"https://user:%zzhidden@host":       "https://…@host",
		"https://user:hid/den@den@host":     "https://…@host",
		"user:hidden@host":                  "…@host",
		"https://host/x?token=hidden":       "https://host/x…",
		"https://host/x#hidden":             "https://host/x…",
		"https://user:hidden@":              "https://…@",
		"oci://host/x@sha256:0011":          "oci://host/x@sha256:…",
		"oci://u:hidden@host/x@sha256:0011": "oci://…@host/x@sha256:…",
	} {
		got := invalid.ClipURL(value)
		require.Equal(t, want, got)
		require.NotContains(t, got, "hid")
	}
	require.Len(t, []rune(invalid.ClipURL("https://"+strings.Repeat("x", 500))), 81)
}
