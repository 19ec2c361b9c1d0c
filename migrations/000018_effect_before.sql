-- +goose Up
ALTER TABLE workflow_effects ADD COLUMN before json, ADD COLUMN after text NOT NULL DEFAULT '';
COMMENT ON COLUMN workflow_effects.before IS 'What was there before the workflow changed it; null where it made something new. It holds no secret.';
COMMENT ON COLUMN workflow_effects.after IS 'What the workflow changed it to: what somebody else changed since stays.';

-- +goose Down
ALTER TABLE workflow_effects DROP COLUMN before, DROP COLUMN after;
