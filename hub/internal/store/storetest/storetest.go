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
func New(t testing.TB) *store.Store {
	t.Helper()
	s, _ := NewWithPool(t)
	return s
}

// NewWithPool makes a Store and shows its pool, for tests that look behind it
// or need a listener.
func NewWithPool(t testing.TB) (*store.Store, *pgxpool.Pool) {
	t.Helper()
	pool := pgtest.Pool(t, pgtest.Migrated(t))
	return store.New(pool), pool
}

// Keyring makes a key ring of the test's own.
func Keyring(t testing.TB) *secret.Keyring {
	t.Helper()
	keys, err := secret.OpenKeyring(t.TempDir())
	require.NoError(t, err)
	return keys
}

// Chart stores what passes for a chart and returns its digest. Only its name,
// version and digest are of use.
func Chart(t testing.TB, s *store.Store, name, version string) string {
	t.Helper()
	content := []byte(name + "-" + version)
	sum := sha256.Sum256(content)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	_, err := s.PutChart(t.Context(), chart.Chart{
		Meta:    chart.Meta{Name: name, Version: version, Digest: digest, Size: int64(len(content)), CreatedAt: time.Now()},
		Content: content,
	})
	require.NoError(t, err)
	return digest
}

// Digest is that of a chart that no store has.
func Digest() string { return "sha256:" + strings.Repeat("0", 64) }
