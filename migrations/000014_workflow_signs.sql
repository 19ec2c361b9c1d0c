-- +goose Up
ALTER TABLE workflows ADD COLUMN looked_at timestamptz, ADD COLUMN asked_at timestamptz;
CREATE INDEX workflows_unfinished_idx ON workflows (created_at) WHERE finished_at IS NULL;
COMMENT ON COLUMN workflows.looked_at IS 'When a look at it last began: the sign that the engine carries it out.';
COMMENT ON COLUMN workflows.asked_at IS 'When a dispatcher last asked the engine for it, since there was no look for long.';

ALTER TABLE workflow_effects ADD COLUMN left_at timestamptz, ADD COLUMN left_why text NOT NULL DEFAULT '';
COMMENT ON COLUMN workflow_effects.left_at IS 'When taking it back was given up; left_why says why, and how a person removes it.';

-- +goose Down
ALTER TABLE workflow_effects DROP COLUMN left_at, DROP COLUMN left_why;
DROP INDEX workflows_unfinished_idx;
ALTER TABLE workflows DROP COLUMN looked_at, DROP COLUMN asked_at;
