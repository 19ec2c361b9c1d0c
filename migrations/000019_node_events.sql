-- +goose Up
CREATE TABLE node_events (
    cluster_id uuid NOT NULL REFERENCES clusters (id) ON DELETE CASCADE,
    uid text NOT NULL,
    node text NOT NULL,
    type text NOT NULL,
    reason text NOT NULL,
    message text NOT NULL,
    count bigint NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    component text NOT NULL,
    host text NOT NULL,
    PRIMARY KEY (cluster_id, uid)
);
CREATE INDEX node_events_last_idx ON node_events (last_at);
COMMENT ON TABLE node_events IS 'What Kubernetes says happened to nodes: the newest few hundred of each cluster, of one day.';
COMMENT ON COLUMN node_events.node IS 'No reference: what happened to a node outlives it.';

-- +goose Down
DROP TABLE node_events;
