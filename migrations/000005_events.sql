-- +goose Up
CREATE TABLE events (
    id bigserial PRIMARY KEY,
    at timestamptz NOT NULL,
    type text NOT NULL,
    cluster_id uuid,
    subject text NOT NULL,
    actor text NOT NULL,
    message text NOT NULL,
    data json NOT NULL DEFAULT '{}',
    transient boolean NOT NULL DEFAULT false
);
CREATE INDEX events_cluster_idx ON events (cluster_id, id);
CREATE INDEX events_at_idx ON events (at);
CREATE INDEX events_transient_idx ON events (at) WHERE transient;
COMMENT ON TABLE events IS 'What happened. Ids are visible in order: every writer holds one advisory lock from the insert to its commit (ADR 5).';
COMMENT ON COLUMN events.cluster_id IS 'No reference: the record of a cluster outlives it.';
COMMENT ON COLUMN events.transient IS 'Of use only to those who watch; purged after an hour.';

-- +goose Down
DROP TABLE events;
