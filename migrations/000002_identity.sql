-- +goose Up
CREATE TABLE authorities (
    id uuid PRIMARY KEY,
    certificate_pem bytea NOT NULL,
    sealed_key bytea NOT NULL,
    active boolean NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX authorities_active_key ON authorities (active) WHERE active;
COMMENT ON TABLE authorities IS 'The hub''s certificate authorities: all are trusted, the active one signs.';
COMMENT ON COLUMN authorities.sealed_key IS 'Private key, encrypted with the key ring in crypto-keys and bound to this row''s id.';

CREATE TABLE join_tokens (
    id text PRIMARY KEY,
    cluster_id uuid NOT NULL REFERENCES clusters (id) ON DELETE CASCADE,
    secret_hash bytea NOT NULL CHECK (octet_length(secret_hash) = 32),
    uses integer NOT NULL CHECK (uses > 0),
    used integer NOT NULL DEFAULT 0 CHECK (used <= uses),
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    expires_at timestamptz NOT NULL,
    last_used_at timestamptz,
    revoked_at timestamptz
);
CREATE INDEX join_tokens_cluster_idx ON join_tokens (cluster_id, created_at);
COMMENT ON TABLE join_tokens IS 'What lets an agent enroll. Only the SHA-256 of the 256-bit secret is kept.';

CREATE TABLE agent_certificates (
    serial text PRIMARY KEY,
    cluster_id uuid NOT NULL REFERENCES clusters (id) ON DELETE CASCADE,
    generation bigint NOT NULL,
    spki_hash bytea NOT NULL CHECK (octet_length(spki_hash) = 32),
    not_before timestamptz NOT NULL,
    not_after timestamptz NOT NULL,
    issued_at timestamptz NOT NULL,
    token_id text,
    confirmed_at timestamptz,
    revoked_at timestamptz,
    CONSTRAINT agent_certificates_generation_key UNIQUE (cluster_id, generation)
);
CREATE INDEX agent_certificates_token_idx ON agent_certificates (token_id) WHERE token_id IS NOT NULL;
COMMENT ON TABLE agent_certificates IS 'Every certificate issued to an agent; one that is not here is refused.';
COMMENT ON COLUMN agent_certificates.confirmed_at IS 'When the agent first came with it. An answer that never reached the agent leaves a certificate unconfirmed, and does not push out the one that the agent has.';
COMMENT ON COLUMN agent_certificates.token_id IS 'The join token that it was issued for; null for a renewal. No reference: a token may be cleaned up before the certificate.';

-- +goose Down
DROP TABLE agent_certificates;
DROP TABLE join_tokens;
DROP TABLE authorities;
