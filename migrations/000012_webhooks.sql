-- +goose Up
CREATE TABLE webhooks (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    url text NOT NULL,
    types text[] NOT NULL DEFAULT '{}',
    cluster_id uuid,
    secret bytea NOT NULL,
    created_at timestamptz NOT NULL,
    created_by text NOT NULL,
    after bigint NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    failures integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL,
    lease_until timestamptz NOT NULL,
    token bigint NOT NULL DEFAULT 0,
    last_sent_at timestamptz,
    error text NOT NULL DEFAULT '',
    CONSTRAINT webhooks_name_key UNIQUE (name)
) WITH (fillfactor = 70);
COMMENT ON TABLE webhooks IS 'Who is told of events by HTTP, and how far each was told.';
COMMENT ON COLUMN webhooks.cluster_id IS 'Only events of this cluster. No reference: it is told of the cluster''s end, too.';
COMMENT ON COLUMN webhooks.secret IS 'The key of the signatures, sealed and bound to the id.';
COMMENT ON COLUMN webhooks.after IS 'The last event that is done with: sent, given up, or not asked for.';
COMMENT ON COLUMN webhooks.attempts IS 'How often the event after that has failed.';
COMMENT ON COLUMN webhooks.failures IS 'How often it has failed in a row, whichever events those were.';
COMMENT ON COLUMN webhooks.token IS 'Grows with each claim: whoever lost a claim changes nothing any more.';

CREATE TABLE webhook_deliveries (
    webhook_id uuid NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    event_id bigint NOT NULL,
    type text NOT NULL,
    body json NOT NULL,
    status text NOT NULL,
    attempts integer NOT NULL,
    first_at timestamptz NOT NULL,
    last_at timestamptz NOT NULL,
    response integer NOT NULL DEFAULT 0,
    took_us bigint NOT NULL DEFAULT 0,
    error text NOT NULL DEFAULT '',
    PRIMARY KEY (webhook_id, event_id)
) WITH (fillfactor = 80);
CREATE INDEX webhook_deliveries_status_idx ON webhook_deliveries (webhook_id, status, event_id DESC);
CREATE INDEX webhook_deliveries_last_idx ON webhook_deliveries (last_at);
COMMENT ON TABLE webhook_deliveries IS 'What was sent to webhooks, what is being tried again, and what was given up. The body is kept, so that it can be sent again when the event is long gone.';

-- +goose Down
DROP TABLE webhook_deliveries;
DROP TABLE webhooks;
