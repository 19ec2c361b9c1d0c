-- +goose Up
ALTER TABLE clusters ADD COLUMN installing_at timestamptz;
COMMENT ON COLUMN clusters.installing_at IS 'When the hub that installs the agent said last that it is at it; null where none does.';

-- +goose Down
ALTER TABLE clusters DROP COLUMN installing_at;
