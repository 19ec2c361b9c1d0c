package hub_test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/pg/pgtest"
)

// canaries are secrets, each by the place where it was offered.
type canaries map[string]string

// at makes the secret that is offered at a place.
func (c canaries) at(place string) string {
	text := "canary" + strings.ToLower(rand.Text())[:18]
	c[place] = text
	return text
}

// forms are the ways in which a text may stand somewhere: as it is, and in hex
// and base64, in which it begins at any of three places.
func forms(text string) []string {
	all := []string{text}
	for lead := range 3 {
		encoded := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("\x00", lead) + text))
		whole := (lead + len(text)) / 3 * 4 // the last group may hold what comes after it
		all = append(all, encoded[(lead*8+5)/6:whole])
	}
	for _, one := range slices.Clone(all) { // columns of bytes are read in hex
		all = append(all, hex.EncodeToString([]byte(one)))
	}
	return all
}

// in lists which of the secrets a text shows.
func (c canaries) in(text string) (shown []string) {
	lower := strings.ToLower(text)
	for _, place := range slices.Sorted(maps.Keys(c)) {
		for _, form := range forms(c[place]) {
			if strings.Contains(text, form) || strings.Contains(lower, form) {
				shown = append(shown, place)
				break
			}
		}
	}
	return shown
}

// haystack is all that can be read of a hub afterwards, by where it is.
type haystack map[string]string

// tables adds every row of every table.
func (h haystack) tables(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	for _, table := range tables(t, pool) {
		var text *string
		require.NoError(t, pool.QueryRow(t.Context(), "SELECT string_agg(x::text, E'\\n') FROM "+table+" x").Scan(&text))
		if text != nil {
			h["table "+table] = *text
		}
	}
}

// shows lists each secret that shows, and where.
func (h haystack) shows(c canaries) (all []string) {
	for _, where := range slices.Sorted(maps.Keys(h)) {
		for _, place := range c.in(h[where]) {
			all = append(all, fmt.Sprintf("what was offered as %s shows in %s", place, where))
		}
	}
	return all
}

// What the search looks for it finds, wherever and however it stands.
func TestCanariesAreFound(t *testing.T) {
	t.Parallel()
	c := canaries{}
	secret := c.at("a test")
	pool := pgtest.Pool(t, pgtest.Empty(t))
	for i, value := range []any{secret, []byte("x" + secret), base64.StdEncoding.EncodeToString([]byte("ab" + secret + "c")), base64.RawURLEncoding.EncodeToString([]byte("abc" + secret)), hex.EncodeToString([]byte(secret))} {
		for _, schema := range []string{"public", "wf"} {
			_, err := pool.Exec(t.Context(), "CREATE SCHEMA IF NOT EXISTS "+schema)
			require.NoError(t, err)
			kind := "text"
			if _, is := value.([]byte); is {
				kind = "bytea"
			}
			table := fmt.Sprintf("%s.t%d", schema, i)
			_, err = pool.Exec(t.Context(), "CREATE TABLE "+table+" (id int, v "+kind+")")
			require.NoError(t, err)
			_, err = pool.Exec(t.Context(), "INSERT INTO "+table+" VALUES (1, $1)", value)
			require.NoError(t, err)
		}
	}
	all := haystack{}
	all.tables(t, pool)
	require.Len(t, all.shows(c), 10, "one for each table: %v", all)
	require.Empty(t, haystack{"elsewhere": "canary in a coal mine"}.shows(c))
}
