-- name: MirrorInsert :exec
INSERT INTO platform_clusters (cluster_id, name) VALUES (@cluster_id, @name)
ON CONFLICT (cluster_id) DO NOTHING;

-- name: MirrorByID :many
SELECT cluster_id, name, registered_at, told_digest, told FROM platform_clusters WHERE cluster_id = @cluster_id;

-- name: MirrorLock :many
SELECT cluster_id, name, registered_at, told_digest, told FROM platform_clusters WHERE cluster_id = @cluster_id FOR UPDATE;

-- name: MirrorList :many
SELECT cluster_id, name, registered_at, told_digest, told FROM platform_clusters ORDER BY cluster_id;

-- name: MirrorUpdate :exec
UPDATE platform_clusters SET registered_at = @registered_at, told_digest = @told_digest, told = @told WHERE cluster_id = @cluster_id;

-- name: MirrorDelete :exec
DELETE FROM platform_clusters WHERE cluster_id = @cluster_id;
