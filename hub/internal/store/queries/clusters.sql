-- name: ClusterInsert :execrows
INSERT INTO clusters (id, name, labels, created_at)
VALUES (@id, @name, @labels, @created_at)
ON CONFLICT (name) WHERE retired_at IS NULL DO NOTHING;

-- name: ClusterLock :one
SELECT name FROM clusters WHERE id = @id FOR UPDATE;

-- name: ClusterFind :many
SELECT
    c.id, c.name, c.labels, c.uid, c.agent_version, c.facts, c.facts_digest, c.degraded,
    c.created_at, c.joined_at, c.revoked_at, c.last_seen,
    c.retire_generation, c.retiring_at, c.retired_at, c.gone_at, c.left_behind, c.ingress_url, c.installing_at,
    s.replica, s.epoch, s.instance, s.remote_addr, s.connected_at, s.seen_at, s.lease_until,
    (SELECT count(*) FROM nodes n WHERE n.cluster_id = c.id) AS nodes,
    (SELECT count(*) FROM nodes n WHERE n.cluster_id = c.id AND n.ready) AS ready_nodes
FROM clusters c
LEFT JOIN agent_sessions s ON s.cluster_id = c.id
WHERE (sqlc.narg('id')::uuid IS NULL OR c.id = sqlc.narg('id'))
  AND (sqlc.narg('name')::text IS NULL OR c.name = sqlc.narg('name'))
  AND (sqlc.narg('retired')::bool IS NULL OR (c.retired_at IS NOT NULL) = sqlc.narg('retired'))
  AND (c.name, c.id) > (@after::text, @after_id::uuid)
ORDER BY c.name, c.id
LIMIT @lim::int;

-- name: ClusterPresence :one
SELECT presence, presence_at FROM clusters WHERE id = @id;

-- name: ClusterSetPresence :exec
UPDATE clusters SET presence = @presence, presence_at = @at::timestamptz WHERE id = @id;

-- name: ClusterRetirement :one
SELECT retire_generation, gone_at FROM clusters WHERE id = @id AND (retiring_at IS NOT NULL OR retired_at IS NOT NULL);

-- name: ClusterSetRetirement :exec
UPDATE clusters SET retire_generation = @retire_generation, retiring_at = @retiring_at, retired_at = @retired_at, gone_at = @gone_at, left_behind = @left_behind
WHERE id = @id;

-- name: ClusterAgent :one
SELECT agent_target, agent_generation, agent_status FROM clusters WHERE id = @id;

-- name: ClusterSetAgent :exec
UPDATE clusters SET agent_target = @agent_target, agent_generation = @agent_generation, agent_status = @agent_status WHERE id = @id;

-- name: ClusterDropReleases :exec
DELETE FROM releases WHERE cluster_id = @cluster_id;

-- name: ClusterDropNodes :exec
WITH events AS (DELETE FROM node_events e WHERE e.cluster_id = @cluster_id)
DELETE FROM nodes n WHERE n.cluster_id = @cluster_id;

-- name: ClusterSetIngressURL :exec
UPDATE clusters SET ingress_url = @ingress_url WHERE id = @id;

-- name: ClusterDelete :exec
DELETE FROM clusters WHERE id = @id;

-- name: ClusterRevoke :exec
UPDATE clusters SET revoked_at = coalesce(revoked_at, @at::timestamptz) WHERE id = @id;

-- name: ClusterRevokeTokens :exec
UPDATE join_tokens SET revoked_at = @at::timestamptz WHERE cluster_id = @cluster_id AND revoked_at IS NULL;

-- name: ClusterRevokeCertificates :exec
UPDATE agent_certificates SET revoked_at = @at::timestamptz WHERE cluster_id = @cluster_id AND revoked_at IS NULL;

-- name: ClusterCountReleases :one
SELECT count(*) FROM releases WHERE cluster_id = @cluster_id;

-- name: ClusterSetDegraded :exec
UPDATE clusters SET degraded = @degraded WHERE id = @id;

-- name: ClusterSetInstalling :exec
UPDATE clusters SET installing_at = @installing_at WHERE id = @id;

-- name: ClusterSetFacts :exec
UPDATE clusters SET facts = @facts, facts_digest = @facts_digest WHERE id = @id;
