-- +goose Up
ALTER TABLE clusters
    ADD COLUMN retire_generation bigint NOT NULL DEFAULT 0,
    ADD COLUMN retiring_at timestamptz,
    ADD COLUMN gone_at timestamptz,
    ADD COLUMN left_behind jsonb NOT NULL DEFAULT '[]';
COMMENT ON COLUMN clusters.retire_generation IS 'Counts the decisions to take the cluster out of the fleet; 0: there was none.';
COMMENT ON COLUMN clusters.retiring_at IS 'When its agent was first to remove what is ours.';
COMMENT ON COLUMN clusters.gone_at IS 'When the agent said that it has.';
COMMENT ON COLUMN clusters.left_behind IS 'What the agent could not remove, a sentence each.';

-- +goose Down
ALTER TABLE clusters
    DROP COLUMN left_behind,
    DROP COLUMN gone_at,
    DROP COLUMN retiring_at,
    DROP COLUMN retire_generation;
