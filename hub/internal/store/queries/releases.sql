-- name: ReleaseClusterForShare :one
SELECT (joined_at IS NOT NULL)::bool AS joined, (retiring_at IS NOT NULL)::bool AS retiring
FROM clusters WHERE id = @id AND retired_at IS NULL FOR SHARE;

-- name: ReleaseList :many
SELECT id, cluster_id, name, namespace, generation, digest, spec, removed_at, created_at, updated_at, status
FROM releases r
WHERE (r.cluster_id, r.name) > (@after_cluster::uuid, @after_name::text)
  AND (sqlc.narg('cluster_id')::uuid IS NULL OR r.cluster_id = sqlc.narg('cluster_id'))
  AND (sqlc.narg('name')::text IS NULL OR r.name = sqlc.narg('name'))
  AND (sqlc.narg('phase')::text IS NULL OR r.phase = sqlc.narg('phase'))
ORDER BY r.cluster_id, r.name
LIMIT @lim::int;

-- name: ReleaseRefs :many
SELECT id, generation, digest FROM releases WHERE cluster_id = @cluster_id ORDER BY name;

-- name: ReleasesByID :many
SELECT * FROM releases WHERE cluster_id = @cluster_id AND id = ANY (@ids::uuid[]) ORDER BY name;

-- name: ReleaseByNameForUpdate :one
SELECT * FROM releases WHERE cluster_id = @cluster_id AND name = @name FOR UPDATE;

-- name: ReleaseByIDForUpdate :one
SELECT * FROM releases WHERE cluster_id = @cluster_id AND id = @id FOR UPDATE;

-- name: ReleaseNamesChart :one
SELECT (EXISTS (SELECT 1 FROM releases WHERE chart_digest = @digest AND cluster_id = @cluster_id)
     OR EXISTS (SELECT 1 FROM clusters WHERE id = @cluster_id AND agent_target ->> 'digest' = @digest))::bool AS named;

-- name: ReleaseUpsert :exec
INSERT INTO releases (id, cluster_id, name, namespace, generation, digest, chart_digest, spec, secret_values, removed_at, created_at, updated_at)
VALUES (@id, @cluster_id, @name, @namespace, @generation, @digest, @chart_digest, @spec, @secret_values, @removed_at, @created_at, @updated_at)
ON CONFLICT (id) DO UPDATE SET
    generation = excluded.generation, digest = excluded.digest, chart_digest = excluded.chart_digest, spec = excluded.spec,
    secret_values = excluded.secret_values, removed_at = excluded.removed_at, updated_at = excluded.updated_at;

-- name: ReleaseSetStatus :exec
UPDATE releases SET phase = @phase, observed_generation = @observed_generation, status = @status WHERE id = @id;

-- name: ReleaseDelete :exec
DELETE FROM releases WHERE id = @id;

-- name: ChartInsert :execrows
INSERT INTO charts (digest, name, version, app_version, description, size, content, created_at)
VALUES (@digest, @name, @version, @app_version, @description, @size, @content, @created_at)
ON CONFLICT (digest) DO NOTHING;

-- name: ChartContent :one
SELECT content FROM charts WHERE digest = @digest;

-- name: ChartMeta :one
SELECT digest, name, version, app_version, description, size, created_at FROM charts WHERE digest = @digest;

-- name: ChartList :many
SELECT digest, name, version, app_version, description, size, created_at
FROM charts
WHERE (name, version, digest) > (@after_name::text, @after_version::text, @after_digest::text)
ORDER BY name, version, digest
LIMIT @lim::int;
