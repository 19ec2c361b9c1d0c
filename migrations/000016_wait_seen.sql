-- +goose Up
ALTER TABLE workflow_waits ADD COLUMN seen bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN workflow_waits.seen IS 'The newest event before the look that waits: only later ones wake it.';

-- +goose Down
ALTER TABLE workflow_waits DROP COLUMN seen;
