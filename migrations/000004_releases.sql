-- +goose Up
CREATE TABLE charts (
    digest text PRIMARY KEY,
    name text NOT NULL,
    version text NOT NULL,
    app_version text NOT NULL,
    description text NOT NULL,
    size bigint NOT NULL,
    content bytea NOT NULL,
    created_at timestamptz NOT NULL
);
ALTER TABLE charts ALTER COLUMN content SET STORAGE EXTERNAL;
CREATE INDEX charts_name_idx ON charts (name, version, digest);
COMMENT ON TABLE charts IS 'Packaged charts by the digest of their bytes; they travel to clusters through the tunnel.';
COMMENT ON COLUMN charts.content IS 'The .tgz; stored without a second, useless compression.';

CREATE TABLE releases (
    id uuid PRIMARY KEY,
    cluster_id uuid NOT NULL REFERENCES clusters (id) ON DELETE CASCADE,
    name text NOT NULL,
    namespace text NOT NULL,
    generation bigint NOT NULL CHECK (generation > 0),
    digest text NOT NULL,
    chart_digest text NOT NULL REFERENCES charts (digest),
    spec json NOT NULL,
    secret_values bytea,
    removed_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    phase text NOT NULL DEFAULT '',
    observed_generation bigint NOT NULL DEFAULT 0,
    status jsonb NOT NULL DEFAULT '{}',
    CONSTRAINT releases_cluster_name_key UNIQUE (cluster_id, name)
);
CREATE INDEX releases_chart_idx ON releases (chart_digest, cluster_id);
COMMENT ON TABLE releases IS 'Desired state. A row with removed_at is a tombstone: it stays until the agent reports the removal of its generation.';
COMMENT ON COLUMN releases.spec IS 'json, not jsonb: the digest is over the exact text, which jsonb would rewrite (1e2 becomes 100).';
COMMENT ON COLUMN releases.secret_values IS 'Salt and secret values, encrypted with the key ring in crypto-keys and bound to this row''s id.';

-- +goose Down
DROP TABLE releases;
DROP TABLE charts;
