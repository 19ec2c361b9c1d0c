package page_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/page"
)

func TestSize(t *testing.T) {
	t.Parallel()
	for limit, want := range map[int]int{-1: 100, 0: 100, 1: 1, 1000: 1000, 1001: 1000} {
		require.Equal(t, want, page.Page{Limit: limit}.Size(), limit)
	}
}

func TestCut(t *testing.T) {
	t.Parallel()
	key := func(s string) []string { return []string{s, "x"} }
	items, next := page.Cut([]string{"a", "b", "c"}, page.Page{Limit: 2}, key)
	require.Equal(t, []string{"a", "b"}, items)
	got, err := page.Page{Cursor: next}.Key(2)
	require.NoError(t, err)
	require.Equal(t, []string{"b", "x"}, got)

	items, next = page.Cut([]string{"c"}, page.Page{Limit: 2}, key)
	require.Equal(t, []string{"c"}, items)
	require.Empty(t, next, "the last page")

	_, err = page.Page{Cursor: next + "!"}.Key(2)
	require.Len(t, invalid.Of(err), 1)
	_, err = page.Page{Cursor: page.Cursor("one")}.Key(2)
	require.EqualError(t, err, `cursor: "WyJvbmUiXQ" is not one that this list gave out; leave it away to start at the first page`)
}

func FuzzKey(f *testing.F) {
	f.Add(page.Cursor("a", "b"), 2)
	f.Add("", 1)
	f.Add("bnVsbA", 0)
	f.Fuzz(func(t *testing.T, cursor string, n int) {
		if n < 0 || n > 10 {
			return
		}
		key, err := page.Page{Cursor: cursor}.Key(n)
		if err != nil {
			require.Len(t, invalid.Of(err), 1)
			return
		}
		require.Len(t, key, n)
		again, err := page.Page{Cursor: page.Cursor(key...)}.Key(n)
		require.NoError(t, err)
		require.Equal(t, key, again)
	})
}
