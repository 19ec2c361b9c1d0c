-- name: InventoryLock :exec
SELECT pg_advisory_xact_lock(@class::int, hashtext(@cluster_id::text));

-- name: InventoryCluster :one
SELECT name, facts, facts_digest, (retired_at IS NOT NULL)::bool AS retired FROM clusters WHERE id = @id;

-- name: NodeDigests :many
SELECT name, digest FROM nodes WHERE cluster_id = @cluster_id;

-- name: NodesByName :many
SELECT name, digest, facts FROM nodes WHERE cluster_id = @cluster_id AND name = ANY (@names::text[]);

-- name: NodesUpsert :exec
INSERT INTO nodes (cluster_id, name, ready, schedulable, digest, facts, created_at, updated_at)
SELECT @cluster_id, unnest(@names::text[]), unnest(@ready::bool[]), unnest(@schedulable::bool[]), unnest(@digests::text[]),
       unnest(@facts::jsonb[]), @at::timestamptz, @at::timestamptz
ON CONFLICT (cluster_id, name) DO UPDATE SET
    ready = excluded.ready, schedulable = excluded.schedulable, digest = excluded.digest, facts = excluded.facts, updated_at = excluded.updated_at;

-- name: NodesDelete :many
DELETE FROM nodes WHERE cluster_id = @cluster_id AND name = ANY (@names::text[]) RETURNING name;

-- name: DevicesUpsert :exec
INSERT INTO devices (cluster_id, node_name, id, vendor, kind, model, facts, updated_at)
SELECT @cluster_id, unnest(@node_names::text[]), unnest(@ids::text[]), unnest(@vendors::text[]), unnest(@kinds::text[]),
       unnest(@models::text[]), unnest(@facts::jsonb[]), @at::timestamptz
ON CONFLICT (cluster_id, node_name, id) DO UPDATE SET
    vendor = excluded.vendor, kind = excluded.kind, model = excluded.model, facts = excluded.facts, updated_at = excluded.updated_at;

-- name: DevicesDelete :exec
DELETE FROM devices
WHERE cluster_id = @cluster_id AND (node_name, id) IN (SELECT unnest(@node_names::text[]), unnest(@ids::text[]));

-- name: NodeList :many
SELECT n.cluster_id, c.name AS cluster_name, n.name, n.facts, n.updated_at, c.last_seen, s.seen_at
FROM nodes n
JOIN clusters c ON c.id = n.cluster_id
LEFT JOIN agent_sessions s ON s.cluster_id = n.cluster_id
WHERE (n.cluster_id, n.name) > (@after_cluster::uuid, @after_name::text)
  AND (sqlc.narg('cluster_id')::uuid IS NULL OR n.cluster_id = sqlc.narg('cluster_id'))
  AND (sqlc.narg('name')::text IS NULL OR n.name = sqlc.narg('name'))
  AND (sqlc.narg('ready')::bool IS NULL OR n.ready = sqlc.narg('ready'))
  AND (sqlc.narg('schedulable')::bool IS NULL OR n.schedulable = sqlc.narg('schedulable'))
  AND (sqlc.narg('kind')::text IS NULL OR EXISTS (
        SELECT 1 FROM devices d WHERE d.cluster_id = n.cluster_id AND d.node_name = n.name AND d.kind = sqlc.narg('kind')))
ORDER BY n.cluster_id, n.name
LIMIT @lim::int;

-- name: DeviceList :many
SELECT d.cluster_id, c.name AS cluster_name, d.node_name, d.facts, d.updated_at, n.ready, n.schedulable, c.last_seen, s.seen_at
FROM devices d
JOIN nodes n ON n.cluster_id = d.cluster_id AND n.name = d.node_name
JOIN clusters c ON c.id = d.cluster_id
LEFT JOIN agent_sessions s ON s.cluster_id = d.cluster_id
WHERE (d.cluster_id, d.node_name, d.id) > (@after_cluster::uuid, @after_node::text, @after_id::text)
  AND (sqlc.narg('cluster_id')::uuid IS NULL OR d.cluster_id = sqlc.narg('cluster_id'))
  AND (sqlc.narg('node')::text IS NULL OR d.node_name = sqlc.narg('node'))
  AND (sqlc.narg('vendor')::text IS NULL OR d.vendor = sqlc.narg('vendor'))
  AND (sqlc.narg('kind')::text IS NULL OR d.kind = sqlc.narg('kind'))
  AND (sqlc.narg('model')::text IS NULL OR d.model = sqlc.narg('model'))
ORDER BY d.cluster_id, d.node_name, d.id
LIMIT @lim::int;

-- name: NodeEventsUpsert :exec
INSERT INTO node_events (cluster_id, uid, node, type, reason, message, count, first_at, last_at, component, host)
SELECT @cluster_id, unnest(@uids::text[]), unnest(@nodes::text[]), unnest(@types::text[]), unnest(@reasons::text[]), unnest(@messages::text[]),
       unnest(@counts::bigint[]), unnest(@first_ats::timestamptz[]), unnest(@last_ats::timestamptz[]), unnest(@components::text[]), unnest(@hosts::text[])
ON CONFLICT (cluster_id, uid) DO UPDATE SET
    node = excluded.node, type = excluded.type, reason = excluded.reason, message = excluded.message, count = excluded.count,
    first_at = excluded.first_at, last_at = excluded.last_at, component = excluded.component, host = excluded.host
WHERE (node_events.count, node_events.last_at) IS DISTINCT FROM (excluded.count, excluded.last_at);

-- name: NodeEventsTrim :exec
DELETE FROM node_events n WHERE n.cluster_id = @cluster_id AND n.uid IN (
    SELECT e.uid FROM node_events e WHERE e.cluster_id = @cluster_id ORDER BY e.last_at DESC, e.uid OFFSET @keep::int);

-- name: NodeEventsPurge :exec
-- Old events of any cluster, so that none stay of one that is silent. Others who purge at the same time are not waited for.
DELETE FROM node_events n WHERE (n.cluster_id, n.uid) IN (
    SELECT e.cluster_id, e.uid FROM node_events e WHERE e.last_at < @before LIMIT @lim::int FOR UPDATE SKIP LOCKED);

-- name: NodeEventList :many
SELECT * FROM node_events
WHERE cluster_id = @cluster_id AND node = @node AND last_at >= @since
ORDER BY last_at DESC, uid;

-- name: NodeEventCounts :many
SELECT node, sum(count)::bigint AS count FROM node_events WHERE cluster_id = @cluster_id AND last_at >= @since GROUP BY node;
