// Package storetest gives tests of the rules a real Store: each on a database
// of its own, cloned from a migrated one, in the test process's Postgres.
package storetest

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/chart"
	"github.com/budecosystem/budcluster/hub/internal/pg/pgtest"
	"github.com/budecosystem/budcluster/hub/internal/store"
	"github.com/budecosystem/budcluster/internal/secret"
)

// New makes a Store on a new database.
func New(tb testing.TB) *store.Store {
	tb.Helper()
	s, _ := NewWithPool(tb)
	return s
}

// NewWithPool makes a Store and shows its pool, for tests that look behind it
// or need a listener.
func NewWithPool(tb testing.TB) (*store.Store, *pgxpool.Pool) {
	tb.Helper()
	pool := pgtest.Pool(tb, pgtest.Migrated(tb))
	return store.New(pool), pool
}

// Keyring makes a key ring of the test's own.
func Keyring(tb testing.TB) *secret.Keyring {
	tb.Helper()
	keys, err := secret.OpenKeyring(tb.TempDir())
	require.NoError(tb, err)
	return keys
}

// Chart stores what passes for a chart and returns its digest. Only its name,
// version and digest are of use.
func Chart(tb testing.TB, s *store.Store, name, version string) string {
	tb.Helper()
	content := []byte(name + "-" + version)
	sum := sha256.Sum256(content)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	_, err := s.PutChart(tb.Context(), chart.Chart{
		Meta:    chart.Meta{Name: name, Version: version, Digest: digest, Size: int64(len(content)), CreatedAt: time.Now()},
		Content: content,
	})
	require.NoError(tb, err)
	return digest
}

// Digest is that of a chart that no store has.
func Digest() string { return "sha256:" + strings.Repeat("0", 64) }
