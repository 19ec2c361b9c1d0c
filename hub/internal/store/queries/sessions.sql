-- name: SessionNextEpoch :one
UPDATE clusters SET session_epoch = session_epoch + 1, agent_version = @agent_version
WHERE id = @id
RETURNING session_epoch;

-- name: SessionWrite :exec
INSERT INTO agent_sessions (cluster_id, replica, epoch, instance, remote_addr, connected_at, seen_at, lease_until)
VALUES (@cluster_id, @replica, @epoch, @instance, @remote_addr, @connected_at, @connected_at, @lease_until)
ON CONFLICT (cluster_id) DO UPDATE SET
    replica = excluded.replica, epoch = excluded.epoch, instance = excluded.instance, remote_addr = excluded.remote_addr,
    connected_at = excluded.connected_at, seen_at = excluded.seen_at, lease_until = excluded.lease_until;

-- name: SessionRenew :exec
UPDATE agent_sessions SET seen_at = @seen_at, lease_until = @lease_until
WHERE replica = @replica AND cluster_id = ANY (@cluster_ids::uuid[]);

-- name: SessionDelete :execrows
DELETE FROM agent_sessions WHERE cluster_id = @cluster_id AND epoch = @epoch;

-- name: SessionMarkSeen :exec
UPDATE clusters SET last_seen = @last_seen::timestamptz WHERE id = @id;

-- name: SessionExpire :many
WITH due AS ( -- the cluster before its session, in the order in which all others lock them
    SELECT c.id FROM clusters c JOIN agent_sessions s ON s.cluster_id = c.id
    WHERE s.lease_until < @now::timestamptz
    ORDER BY c.id
    FOR UPDATE OF c SKIP LOCKED
), gone AS (
    DELETE FROM agent_sessions s USING due
    WHERE s.cluster_id = due.id AND s.lease_until < @now::timestamptz
    RETURNING s.cluster_id, s.replica, s.epoch, s.seen_at
)
UPDATE clusters c SET last_seen = gone.seen_at
FROM gone WHERE c.id = gone.cluster_id
RETURNING c.id, c.name, gone.replica, gone.epoch, gone.seen_at;

-- name: SessionEpochs :many
SELECT s.cluster_id, s.epoch
FROM agent_sessions s
JOIN clusters c ON c.id = s.cluster_id
WHERE s.cluster_id = ANY (@cluster_ids::uuid[]) AND c.revoked_at IS NULL;
