-- +goose Up
CREATE TABLE workflows (
    id uuid PRIMARY KEY,
    kind text NOT NULL,
    cluster_id uuid,
    cluster_name text NOT NULL DEFAULT '',
    status text NOT NULL,
    input json NOT NULL DEFAULT '{}',
    reply json,
    exclusive boolean NOT NULL,
    result json,
    reason text NOT NULL DEFAULT '',
    message text NOT NULL DEFAULT '',
    eta_us bigint NOT NULL DEFAULT 0,
    created_by text NOT NULL,
    retry_of uuid,
    created_at timestamptz NOT NULL,
    scheduled_at timestamptz,
    cancelled_at timestamptz,
    cancelled_by text NOT NULL DEFAULT '',
    finished_at timestamptz
) WITH (fillfactor = 80);
CREATE INDEX workflows_created_idx ON workflows (created_at DESC, id DESC);
CREATE INDEX workflows_cluster_idx ON workflows (cluster_id, created_at DESC);
CREATE INDEX workflows_unscheduled_idx ON workflows (created_at) WHERE scheduled_at IS NULL;
CREATE UNIQUE INDEX workflows_exclusive_key ON workflows (cluster_id) WHERE exclusive AND finished_at IS NULL;
COMMENT ON TABLE workflows IS 'What was asked for and what came of it. The row is authoritative: the engine drives it, and only the first terminal status counts.';
COMMENT ON COLUMN workflows.cluster_id IS 'No reference: the record of a workflow outlives its cluster.';
COMMENT ON COLUMN workflows.reply IS 'Whom to tell besides the record: topics and metadata of the platform''s request.';
COMMENT ON COLUMN workflows.exclusive IS 'It changes the life of its cluster, so that no other such workflow may run beside it.';
COMMENT ON COLUMN workflows.scheduled_at IS 'When the engine was given it. A row without is found by the dispatcher, whoever died before.';
COMMENT ON COLUMN workflows.cancelled_at IS 'When somebody asked for its end. It ends when what it did is undone.';

CREATE TABLE workflow_steps (
    workflow_id uuid NOT NULL REFERENCES workflows (id) ON DELETE CASCADE,
    ordinal integer NOT NULL,
    name text NOT NULL,
    title text NOT NULL,
    milestone text NOT NULL DEFAULT '',
    release text NOT NULL DEFAULT '',
    status text NOT NULL,
    reason text NOT NULL DEFAULT '',
    message text NOT NULL DEFAULT '',
    started_at timestamptz,
    finished_at timestamptz,
    evaluations integer NOT NULL DEFAULT 0,
    waited_us bigint NOT NULL DEFAULT 0,
    typical_us bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (workflow_id, name)
) WITH (fillfactor = 70);
COMMENT ON TABLE workflow_steps IS 'The steps of each workflow in their order, with their times.';
COMMENT ON COLUMN workflow_steps.milestone IS 'The step of the platform''s contract that this one is a part of.';
COMMENT ON COLUMN workflow_steps.typical_us IS 'How many microseconds it takes as a rule; what is ahead of a workflow adds up to its eta.';
COMMENT ON COLUMN workflow_steps.waited_us IS 'Microseconds that passed until the facts were such that it could go on; the rest of its time is ours.';

CREATE TABLE workflow_waits (
    workflow_id uuid PRIMARY KEY REFERENCES workflows (id) ON DELETE CASCADE,
    sequence bigint NOT NULL,
    cluster_id uuid,
    subjects text[] NOT NULL,
    since timestamptz NOT NULL,
    deadline timestamptz NOT NULL,
    woken_at timestamptz,
    raised_at timestamptz
) WITH (fillfactor = 70);
CREATE INDEX workflow_waits_cluster_idx ON workflow_waits (cluster_id);
CREATE INDEX workflow_waits_deadline_idx ON workflow_waits (deadline);
COMMENT ON TABLE workflow_waits IS 'What each waiting workflow waits for. A change of one of its subjects wakes it; it then looks for itself, so a needless wake-up does no harm and a lost one costs time only.';
COMMENT ON COLUMN workflow_waits.subjects IS 'Kinds of facts, e.g. session, nodes, release/nfd.';
COMMENT ON COLUMN workflow_waits.raised_at IS 'When the engine was last told. The row goes when the step is evaluated again; until then it is told again now and then.';

CREATE TABLE workflow_effects (
    workflow_id uuid NOT NULL REFERENCES workflows (id) ON DELETE CASCADE,
    ordinal integer NOT NULL,
    kind text NOT NULL,
    name text NOT NULL,
    cluster_id uuid,
    recorded_at timestamptz NOT NULL,
    undone_at timestamptz,
    PRIMARY KEY (workflow_id, kind, name)
);
COMMENT ON TABLE workflow_effects IS 'The ledger: what a workflow is about to make, written before it is made. Cancel and failure undo exactly these, last first.';

-- +goose Down
DROP TABLE workflow_effects;
DROP TABLE workflow_waits;
DROP TABLE workflow_steps;
DROP TABLE workflows;
