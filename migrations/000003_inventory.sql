-- +goose Up
CREATE TABLE nodes (
    cluster_id uuid NOT NULL REFERENCES clusters (id) ON DELETE CASCADE,
    name text NOT NULL,
    ready boolean NOT NULL,
    schedulable boolean NOT NULL,
    digest text NOT NULL,
    facts jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (cluster_id, name)
) WITH (fillfactor = 80);
COMMENT ON TABLE nodes IS 'What each agent last said of each node. A node goes when its agent says that it is gone, never for silence.';
COMMENT ON COLUMN nodes.digest IS 'Digest of the facts as the agent sent them, for comparison with its summaries.';

CREATE TABLE devices (
    cluster_id uuid NOT NULL,
    node_name text NOT NULL,
    id text NOT NULL,
    vendor text NOT NULL,
    kind text NOT NULL,
    model text NOT NULL,
    facts jsonb NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (cluster_id, node_name, id),
    FOREIGN KEY (cluster_id, node_name) REFERENCES nodes (cluster_id, name) ON DELETE CASCADE
);
CREATE INDEX devices_kind_idx ON devices (kind, cluster_id, node_name, id);
COMMENT ON TABLE devices IS 'The devices of nodes.facts once more, a row each, for fleet-wide search.';

-- +goose Down
DROP TABLE devices;
DROP TABLE nodes;
