-- +goose Up
CREATE TABLE chart_pins (
    source text NOT NULL,
    name text NOT NULL,
    version text NOT NULL,
    digest text NOT NULL,
    pinned_at timestamptz NOT NULL,
    PRIMARY KEY (source, name, version)
);
COMMENT ON TABLE chart_pins IS 'The digests of the first downloads of charts that the catalogue cannot pin: every cluster gets the same bytes.';
COMMENT ON COLUMN chart_pins.source IS 'The address of the repository, or that of the chart in an OCI registry.';

-- +goose Down
DROP TABLE chart_pins;
