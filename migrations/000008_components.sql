-- +goose Up
ALTER TABLE clusters
    ADD COLUMN ingress_url text NOT NULL DEFAULT '',
    ADD COLUMN presence jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN presence_at timestamptz,
    ADD COLUMN agent_target json,
    ADD COLUMN agent_generation bigint NOT NULL DEFAULT 0,
    ADD COLUMN agent_status jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN retired_at timestamptz,
    DROP CONSTRAINT clusters_name_key,
    DROP CONSTRAINT clusters_uid_key;
CREATE UNIQUE INDEX clusters_name_key ON clusters (name) WHERE retired_at IS NULL;
CREATE UNIQUE INDEX clusters_uid_key ON clusters (uid) WHERE retired_at IS NULL;
COMMENT ON COLUMN clusters.uid IS 'UID of the kube-system namespace, what makes a cluster the same cluster; null until it joined.';
COMMENT ON COLUMN clusters.presence IS 'Which components the agent found in the cluster, whoever put them there.';
COMMENT ON COLUMN clusters.agent_target IS 'The agent that is wanted there: chart and version. Null: the one that is there.';
COMMENT ON COLUMN clusters.agent_generation IS 'Counts the targets of the agent.';
COMMENT ON COLUMN clusters.agent_status IS 'What the agent said of its own upgrade.';
COMMENT ON COLUMN clusters.retired_at IS 'A tombstone: taken out of the fleet, name and UID are free. The row stays until the agent has removed what is ours, if it ever comes back.';

CREATE TABLE cluster_components (
    cluster_id uuid NOT NULL REFERENCES clusters (id) ON DELETE CASCADE,
    name text NOT NULL,
    wanted text NOT NULL,
    version text NOT NULL DEFAULT '',
    digest text NOT NULL DEFAULT '',
    values json,
    updated_by text NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (cluster_id, name)
);
COMMENT ON TABLE cluster_components IS 'Where a cluster departs from the catalogue. No row: as the catalogue says.';
COMMENT ON COLUMN cluster_components.wanted IS 'auto: as the facts say; yes; no.';

-- +goose Down
DROP TABLE cluster_components;
DELETE FROM clusters WHERE retired_at IS NOT NULL;
DROP INDEX clusters_uid_key;
DROP INDEX clusters_name_key;
ALTER TABLE clusters
    ADD CONSTRAINT clusters_name_key UNIQUE (name),
    ADD CONSTRAINT clusters_uid_key UNIQUE (uid),
    DROP COLUMN retired_at,
    DROP COLUMN agent_status,
    DROP COLUMN agent_generation,
    DROP COLUMN agent_target,
    DROP COLUMN presence_at,
    DROP COLUMN presence,
    DROP COLUMN ingress_url;
