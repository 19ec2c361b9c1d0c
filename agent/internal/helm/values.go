package helm

import "context"

// Given is what a revision was made from.
type Given struct {
	// Values as they were given, without the chart's own defaults.
	Values map[string]any
	// ChartVersion and AppVersion are the chart's.
	ChartVersion, AppVersion string
}

// Given reads what a revision was made from.
func (c *Client) Given(ctx context.Context, ref Ref, revision int) (Given, error) {
	if err := ctx.Err(); err != nil {
		return Given{}, err
	}
	rel, _, err := c.load(ref, revision)
	if err != nil {
		return Given{}, err
	}
	g := Given{Values: rel.Config}
	if rel.Chart != nil && rel.Chart.Metadata != nil {
		g.ChartVersion, g.AppVersion = rel.Chart.Metadata.Version, rel.Chart.Metadata.AppVersion
	}
	return g, nil
}
