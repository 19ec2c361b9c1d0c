-- name: WishList :many
SELECT name, wanted, version, digest, values FROM cluster_components WHERE cluster_id = @cluster_id;

-- name: WishPut :exec
INSERT INTO cluster_components (cluster_id, name, wanted, version, digest, values, updated_by, updated_at)
VALUES (@cluster_id, @name, @wanted, @version, @digest, @values, @updated_by, @updated_at)
ON CONFLICT (cluster_id, name) DO UPDATE SET
    wanted = excluded.wanted, version = excluded.version, digest = excluded.digest, values = excluded.values,
    updated_by = excluded.updated_by, updated_at = excluded.updated_at;

-- name: WishDelete :exec
DELETE FROM cluster_components WHERE cluster_id = @cluster_id AND name = @name;

-- name: ChartPin :one
SELECT digest FROM chart_pins WHERE source = @source AND name = @name AND version = @version;

-- name: ChartPinPut :one
INSERT INTO chart_pins (source, name, version, digest, pinned_at) VALUES (@source, @name, @version, @digest, @pinned_at)
ON CONFLICT (source, name, version) DO UPDATE SET digest = chart_pins.digest
RETURNING digest;
