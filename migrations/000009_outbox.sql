-- +goose Up
CREATE TABLE outbox (
    id bigserial PRIMARY KEY,
    stream uuid NOT NULL,
    topic text NOT NULL,
    key text NOT NULL,
    event_id uuid NOT NULL,
    type text NOT NULL,
    source text NOT NULL,
    body json NOT NULL,
    written_at timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    error text NOT NULL DEFAULT '',
    sent_at timestamptz,
    dead_at timestamptz,
    CONSTRAINT outbox_key UNIQUE (stream, topic, key)
) WITH (fillfactor = 70);
CREATE INDEX outbox_due_idx ON outbox (due_at) WHERE sent_at IS NULL AND dead_at IS NULL;
CREATE INDEX outbox_lane_idx ON outbox (stream, topic, id) WHERE sent_at IS NULL AND dead_at IS NULL;
CREATE INDEX outbox_written_idx ON outbox (written_at);
CREATE INDEX outbox_dead_idx ON outbox (id) WHERE dead_at IS NOT NULL;
COMMENT ON TABLE outbox IS 'Messages for topics, written in the transaction of the change that they tell of, and delivered in order per stream and topic.';
COMMENT ON COLUMN outbox.stream IS 'The workflow or the cluster that it is about. No reference: what is not delivered yet outlives it.';
COMMENT ON COLUMN outbox.key IS 'What it says, unique in its stream: a replay of the same writes nothing.';
COMMENT ON COLUMN outbox.event_id IS 'The id of the CloudEvent, the same on each topic and with each attempt.';
COMMENT ON COLUMN outbox.due_at IS 'When it may be attempted: while it is attempted, the end of the lease.';

-- +goose Down
DROP TABLE outbox;
