-- +goose Up
CREATE TABLE platform_clusters (
    cluster_id uuid PRIMARY KEY,
    name text NOT NULL,
    registered_at timestamptz,
    told_digest text NOT NULL DEFAULT '',
    told bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE platform_clusters IS 'Clusters that the platform asked for, and what its services were last told of each. Without a foreign key: a row outlives its cluster until they know that it is gone.';
COMMENT ON COLUMN platform_clusters.name IS 'What the platform calls it; the register has a name of its own making.';
COMMENT ON COLUMN platform_clusters.registered_at IS 'When it was first ready for models; null while the platform has to wait for that.';
COMMENT ON COLUMN platform_clusters.told IS 'Counts the messages about its state.';

-- +goose Down
DROP TABLE platform_clusters;
