package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/budecosystem/budcluster/deploy/e2e/standin"
)

// A cluster without a way to the internet gets its components from a chart
// repository of the site's own, and so does the demo's: the charts there stand
// in for the real ones (see package standin).

func (d *demo) chartsDir() string     { return filepath.Join(d.dir, "repository") }
func (d *demo) componentsDir() string { return filepath.Join(d.dir, "components") }
func (d *demo) chartsAlive() bool {
	return alive(d.record.ChartsPID, "demo", "charts", d.record.Charts)
}

// charts starts the chart repository, or finds it running.
func (d *demo) charts(ctx context.Context) error {
	if d.chartsAlive() {
		d.step("charts: their repository runs already, at http://%s", d.record.Charts)
		return nil
	}
	d.step("charts: a repository of stand-ins for the components' charts, laid over the hub's catalogue")
	if d.record.Charts == "" {
		d.record.Charts = freeAddress(ctx, "127.0.0.1", "8081")
	}
	for _, dir := range []string{d.chartsDir(), d.componentsDir()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	packed, err := standin.Write(d.chartsDir())
	if err != nil {
		return err
	}
	if err := standin.Catalogue(d.componentsDir(), "http://"+d.record.Charts, packed); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	server := exec.CommandContext(context.WithoutCancel(ctx), self, "charts", d.record.Charts, d.chartsDir())
	log := filepath.Join(d.dir, "charts.log")
	exited, err := background(server, log)
	if err != nil {
		return err
	}
	d.record.ChartsPID = server.Process.Pid
	if err := d.save(); err != nil {
		return err
	}
	return wait(ctx, 10*time.Second, "the repository of charts", func() error {
		select {
		case err := <-exited:
			return fmt.Errorf("%w: it ended: %w; the end of its log %s:\n%s", errHopeless, err, log, tail(log))
		default:
			return answers(ctx, "http://"+d.record.Charts+"/index.yaml")
		}
	})
}

// serveCharts is what the process of the repository does.
func serveCharts(ctx context.Context, address, dir string) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.FileServer(http.Dir(dir)), ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
