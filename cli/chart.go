package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/internal/chartfile"
)

func (a *app) charts() *cobra.Command {
	return group("chart", "Helm charts that the hub holds", a.chartList(), a.chartPush())
}

func (a *app) chartList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List charts", Args: cobra.NoArgs,
		Example: `  budcluster chart list
  budcluster chart list -o wide`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			all, err := hubapi.Collect(c.AllCharts(cmd.Context()))
			if err != nil {
				return err
			}
			p := a.printer()
			head := []string{"NAME", "VERSION", "APP VERSION", "SIZE", "DIGEST", "AGE"}
			if p.wide() {
				head = append(head, "DESCRIPTION")
			}
			return list(p, all, func(c hubapi.Chart) string { return c.Digest }, head, func(c hubapi.Chart) []cell {
				row := []cell{text(c.Name), text(c.Version), text(c.AppVersion), text(size(c.Size)), text(p.digest(c.Digest)), p.age(c.CreatedAt)}
				if p.wide() {
					row = append(row, text(clipped(c.Description, 60)))
				}
				return row
			})
		},
	}
}

// digest is shortened but for wide.
func (p *printer) digest(s string) string {
	if p.wide() || len(s) < 19 {
		return s
	}
	return s[:19]
}

func (a *app) chartPush() *cobra.Command {
	return &cobra.Command{
		Use: "push CHART", Short: "Give the hub a chart: a folder or a .tgz", Args: cobra.ExactArgs(1),
		Example: `  budcluster chart push ./web
  budcluster chart push web-1.2.0.tgz`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			pushed, err := pushChart(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			p := a.printer()
			return one(p, pushed, pushed.Digest, func() {
				_, _ = fmt.Fprintf(p.out, "The hub holds %s %s as %s.\n", pushed.Name, pushed.Version, pushed.Digest)
			})
		},
	}
}

// pushChart packs a folder, or takes a .tgz as it is. Both are looked at here
// first, so that what is no chart fails before it travels.
func pushChart(ctx context.Context, c *hubapi.Client, path string) (hubapi.Chart, error) {
	tgz, err := readChart(path)
	if err != nil {
		return hubapi.Chart{}, fmt.Errorf("chart %s: %w", path, err)
	}
	return c.PushChart(ctx, bytes.NewReader(tgz))
}

func readChart(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, reason(err)
	}
	if info.IsDir() {
		tgz, _, err := chartfile.Pack(os.DirFS(path))
		return tgz, err //nolint:wrapcheck // a sentence already
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, reason(err)
	}
	defer func() { _ = f.Close() }()
	tgz, err := io.ReadAll(io.LimitReader(f, chartfile.MaxSize+1))
	if err != nil {
		return nil, reason(err)
	}
	_, err = chartfile.Inspect(tgz)
	return tgz, err //nolint:wrapcheck // a sentence already
}

// reason is an error of the file system without the path, which is named by
// the one who wraps it.
func reason(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

// chartSource reads --chart: a folder or .tgz here, which is pushed; a digest;
// oci://…; the URL of a repository; or hub:PATH below the hub's chartsDir.
func chartSource(ctx context.Context, c *hubapi.Client, chart, name, version string) (hubapi.ChartSource, error) {
	var s hubapi.ChartSource
	switch {
	case chart == "":
		return s, usagef("no chart is given; name one with --chart, or in the file of --file")
	case strings.HasPrefix(chart, "sha256:"):
		s.Digest = chart
	case strings.HasPrefix(chart, "oci://"):
		s.OCI, s.Version = chart, version
		version = ""
	case strings.HasPrefix(chart, "https://"), strings.HasPrefix(chart, "http://"):
		if name == "" {
			return s, usagef("--chart %s is a repository; name the chart in it with --chart-name", chart)
		}
		s.Repository, s.Name, s.Version = chart, name, version
		name, version = "", ""
	case strings.HasPrefix(chart, "hub:"):
		s.Path = strings.TrimPrefix(chart, "hub:")
	default:
		pushed, err := pushChart(ctx, c, chart)
		if err != nil {
			return s, err
		}
		s.Digest = pushed.Digest
	}
	if name != "" || version != "" {
		return s, usagef("--chart-name goes only with a repository, --chart-version only with a repository or oci://; leave them out")
	}
	return s, nil
}
