-- +goose Up
CREATE SCHEMA wf;

CREATE TABLE wf.instances (
    id text COLLATE "C" PRIMARY KEY,
    name text NOT NULL,
    execution_id text NOT NULL,
    parent_id text COLLATE "C",
    status text NOT NULL,
    custom_status text NOT NULL DEFAULT '',
    start bytea NOT NULL,
    output text,
    failure bytea,
    turns integer NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    started_at timestamptz,
    updated_at timestamptz NOT NULL,
    ended_at timestamptz,
    claim_at timestamptz,
    due_at timestamptz,
    token bigint,
    holder text
);
CREATE INDEX instances_claim_idx ON wf.instances (claim_at) WHERE claim_at IS NOT NULL;
CREATE INDEX instances_ended_idx ON wf.instances (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX instances_parent_idx ON wf.instances (parent_id) WHERE parent_id IS NOT NULL;
COMMENT ON TABLE wf.instances IS 'The engine''s instances of workflows, and who works on each: hub/internal/store/taskhub.';
COMMENT ON COLUMN wf.instances.execution_id IS 'Changes when the workflow continues as new; what was begun before is not for it any more.';
COMMENT ON COLUMN wf.instances.start IS 'The event that began it, and the first that its first turn sees.';
COMMENT ON COLUMN wf.instances.attempts IS 'Turns in a row that failed inside of the engine.';
COMMENT ON COLUMN wf.instances.claim_at IS 'From when on it may be claimed: while it is held, when the lease ends; otherwise when its next event is due; null when there is none.';
COMMENT ON COLUMN wf.instances.due_at IS 'While it is held: when the next event is due that the holder did not take.';
COMMENT ON COLUMN wf.instances.token IS 'The holder''s, other for each claim; null when nobody holds it.';

CREATE TABLE wf.history (
    instance_id text COLLATE "C" NOT NULL,
    turn integer NOT NULL,
    events bytea NOT NULL,
    PRIMARY KEY (instance_id, turn)
);
COMMENT ON TABLE wf.history IS 'What each turn of an instance added. Rows are appended, and replaced only when a workflow continues as new.';

CREATE TABLE wf.events (
    instance_id text COLLATE "C" NOT NULL,
    seq bigint GENERATED ALWAYS AS IDENTITY,
    execution_id text,
    visible_at timestamptz NOT NULL,
    event bytea NOT NULL,
    PRIMARY KEY (instance_id, seq)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
COMMENT ON TABLE wf.events IS 'What an instance has not seen yet: results, timers, events from outside.';
COMMENT ON COLUMN wf.events.execution_id IS 'The execution that it answers; null when it is for whichever is on.';

CREATE TABLE wf.activities (
    instance_id text COLLATE "C" NOT NULL,
    id bigint NOT NULL,
    execution_id text NOT NULL,
    event bytea NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    claim_at timestamptz NOT NULL,
    token bigint,
    holder text,
    PRIMARY KEY (instance_id, id)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE INDEX activities_claim_idx ON wf.activities (claim_at);
COMMENT ON TABLE wf.activities IS 'Activities that are not done. A row goes with its result.';

-- +goose Down
DROP SCHEMA wf CASCADE;
