// Package migrations holds the database schema, as goose migrations that also
// sqlc reads. A migration is never edited after it was merged: change the
// schema by a new one, so that the release before can still run on it.
package migrations

import "embed"

// FS holds the migrations.
//
//go:embed *.sql
var FS embed.FS
