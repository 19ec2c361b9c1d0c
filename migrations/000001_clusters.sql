-- +goose Up
CREATE TABLE clusters (
    id uuid PRIMARY KEY,
    name text NOT NULL CONSTRAINT clusters_name_key UNIQUE,
    labels jsonb NOT NULL DEFAULT '{}',
    uid text CONSTRAINT clusters_uid_key UNIQUE,
    agent_version text NOT NULL DEFAULT '',
    facts jsonb,
    facts_digest text NOT NULL DEFAULT '',
    degraded jsonb NOT NULL DEFAULT '[]',
    session_epoch bigint NOT NULL DEFAULT 0,
    certificate_generation bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    joined_at timestamptz,
    revoked_at timestamptz,
    last_seen timestamptz
);
COMMENT ON TABLE clusters IS 'The register: every cluster of the fleet. A row goes only by an explicit delete.';
COMMENT ON COLUMN clusters.uid IS 'UID of the kube-system namespace, what makes a cluster the same cluster; null until it joined.';
COMMENT ON COLUMN clusters.session_epoch IS 'Counts sessions; outlives them, so that a newer one always fences an older.';
COMMENT ON COLUMN clusters.certificate_generation IS 'Counts the certificates issued to the cluster.';
COMMENT ON COLUMN clusters.last_seen IS 'When the last session ended. While one is open, agent_sessions.seen_at is newer.';

CREATE TABLE agent_sessions (
    cluster_id uuid PRIMARY KEY REFERENCES clusters (id) ON DELETE CASCADE,
    replica text NOT NULL,
    epoch bigint NOT NULL,
    instance text NOT NULL,
    remote_addr text NOT NULL,
    connected_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL,
    lease_until timestamptz NOT NULL
) WITH (fillfactor = 70);
COMMENT ON TABLE agent_sessions IS 'Open tunnels, at most one for each cluster. Narrow, without further index and with room in its pages, since each lease renewal updates it in place.';

-- +goose Down
DROP TABLE agent_sessions;
DROP TABLE clusters;
