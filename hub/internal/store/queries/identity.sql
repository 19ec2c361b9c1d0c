-- name: TokenInsert :execrows
INSERT INTO join_tokens (id, cluster_id, secret_hash, uses, created_at, created_by, expires_at)
SELECT @id, c.id, @secret_hash, @uses, @created_at, @created_by, @expires_at FROM clusters c
WHERE c.id = @cluster_id AND c.retired_at IS NULL;

-- name: TokensByCluster :many
SELECT * FROM join_tokens WHERE cluster_id = @cluster_id ORDER BY created_at, id;

-- name: TokenByID :one
SELECT * FROM join_tokens WHERE id = @id;

-- name: TokenByIDForUpdate :one
SELECT * FROM join_tokens WHERE id = @id FOR UPDATE;

-- name: TokenUse :exec
UPDATE join_tokens SET used = used + 1, last_used_at = @at::timestamptz WHERE id = @id;

-- name: TokenRevoke :execrows
UPDATE join_tokens SET revoked_at = @at::timestamptz WHERE id = @id AND cluster_id = @cluster_id;

-- name: MemberByIDForUpdate :one
SELECT id, name, uid, joined_at, revoked_at, retired_at, gone_at FROM clusters WHERE id = @id FOR UPDATE;

-- name: MemberByUID :one
SELECT id, name, uid, joined_at, revoked_at, retired_at, gone_at FROM clusters WHERE uid = @uid::text AND retired_at IS NULL;

-- name: MemberJoin :exec
UPDATE clusters SET uid = @uid::text, agent_version = @agent_version, joined_at = coalesce(joined_at, @at::timestamptz), revoked_at = NULL
WHERE id = @id;

-- name: MemberNextGeneration :one
UPDATE clusters SET certificate_generation = certificate_generation + 1 WHERE id = @id RETURNING certificate_generation;

-- name: CertificateInsert :exec
INSERT INTO agent_certificates (serial, cluster_id, generation, spki_hash, not_before, not_after, issued_at, token_id)
VALUES (@serial, @cluster_id, @generation, @spki_hash, @not_before, @not_after, @issued_at, @token_id);

-- name: CertificateBySerial :one
SELECT
    a.serial, a.cluster_id, a.generation, a.spki_hash, a.not_before, a.not_after, a.issued_at, a.token_id, a.confirmed_at, a.revoked_at,
    c.revoked_at AS cluster_revoked_at,
    (SELECT count(*) FROM agent_certificates n
     WHERE n.cluster_id = a.cluster_id AND n.generation > a.generation AND n.confirmed_at IS NOT NULL AND n.revoked_at IS NULL) AS newer
FROM agent_certificates a
JOIN clusters c ON c.id = a.cluster_id
WHERE a.serial = @serial;

-- name: CertificateConfirm :exec
UPDATE agent_certificates SET confirmed_at = @at::timestamptz WHERE serial = @serial AND confirmed_at IS NULL;

-- name: CertificateForToken :one
SELECT EXISTS (SELECT 1 FROM agent_certificates WHERE token_id = @token_id::text AND spki_hash = @spki_hash);

-- name: CertificatePurge :exec
DELETE FROM agent_certificates WHERE cluster_id = @cluster_id AND not_after < @ended_before;

-- name: AuthorityInsert :exec
INSERT INTO authorities (id, certificate_pem, sealed_key, active, created_at)
VALUES (@id, @certificate_pem, @sealed_key, true, @created_at)
ON CONFLICT (active) WHERE active DO NOTHING;

-- name: Authorities :many
SELECT * FROM authorities ORDER BY active DESC, created_at DESC;
