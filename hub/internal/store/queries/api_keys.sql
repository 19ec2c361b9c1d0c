-- name: KeyInsert :execrows
INSERT INTO api_keys (id, name, role, secret_hash, created_at, created_by)
VALUES (@id, @name, @role, @secret_hash, @created_at, @created_by)
ON CONFLICT (name) WHERE revoked_at IS NULL DO NOTHING;

-- name: KeyByID :one
SELECT * FROM api_keys WHERE id = @id;

-- name: Keys :many
SELECT * FROM api_keys ORDER BY created_at, id;

-- name: KeyRevoke :one
UPDATE api_keys SET revoked_at = @at::timestamptz WHERE id = @id AND revoked_at IS NULL RETURNING *;

-- name: KeyMarkUsed :exec
UPDATE api_keys SET last_used_at = @at::timestamptz WHERE id = @id;
