package pg_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

// schema writes the schema as text, from the catalogue: what pg_dump prints
// differs between its versions.
func schema(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	const query = `
WITH t AS (
    SELECT c.oid, CASE WHEN n.nspname = 'public' THEN '' ELSE n.nspname || '.' END || c.relname AS relname, c.reloptions
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('public', 'wf') AND c.relkind = 'r' AND c.relname <> 'goose_db_version'
)
SELECT line FROM (
    SELECT relname, 0 AS part, 0 AS place, E'\ntable ' || relname || coalesce(' with ' || array_to_string(reloptions, ', '), '')
        || coalesce(E'\n  -- ' || obj_description(oid, 'pg_class'), '') AS line FROM t
    UNION ALL
    SELECT relname, 1, a.attnum, '  ' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
        || CASE WHEN a.attcollation = '"C"'::regcollation THEN ' collate C' ELSE '' END || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END
        || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '')
        || CASE a.attidentity WHEN 'a' THEN ' identity' ELSE '' END
    FROM t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = t.oid AND d.adnum = a.attnum
    UNION ALL
    SELECT relname, 2, 0, '  constraint ' || conname || ' ' || pg_get_constraintdef(k.oid) FROM t JOIN pg_constraint k ON k.conrelid = t.oid
    UNION ALL
    SELECT relname, 3, 0, '  ' || pg_get_indexdef(i.indexrelid) FROM t JOIN pg_index i ON i.indrelid = t.oid
    WHERE NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u'))
) s ORDER BY relname, part, place, line`
	rows, err := pool.Query(t.Context(), query)
	require.NoError(t, err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return strings.TrimSpace(strings.Join(lines, "\n")) + "\n"
}
