package cli

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/budecosystem/budcluster/hub/hubapi"
)

// apply is one `release apply`: its flags, and what comes of them.
type apply struct {
	a            *app
	file         string
	cluster      string
	chart        string
	chartName    string
	chartVersion string
	values       values
	secrets      values
	f            releaseFile
	generation   int64
	wait         bool
	limit        time.Duration
}

func (a *app) releaseApply() *cobra.Command {
	ap := &apply{a: a}
	var noNamespace bool
	cmd := &cobra.Command{
		Use: "apply [RELEASE] --cluster CLUSTER", Short: "Want a release to be so, and see to it", Args: cobra.MaximumNArgs(1),
		Long: `Want a release to be so: install it if it is not there, change it if it is. The
same again changes nothing. What is left out is set back to its default, but for
secret values: those that there are stay, and an empty object takes them away.

--chart is a folder or .tgz here, which is pushed to the hub; the digest of a
chart that was pushed; oci://host/path; the URL of a Helm repository (with
--chart-name); or hub:PATH, below the hub's chartsDir.

--file holds the same as YAML; flags stand above it:

  name: web
  cluster: frankfurt
  namespace: web
  chart: {path: ./web}        # or digest, oci, repository with name, hubPath
  values: {replicas: 2}
  secretValues: {}            # better by --secret-values
  createNamespace: true
  timeout: 5m
  remediation: rollback       # or keep, uninstall
  maxAttempts: 5
  drift: correct              # or report, ignore
  adoption: observe           # or takeOver
  outputs: [{name: ip, apiVersion: v1, kind: Service, object: web, jsonPath: "{.spec.clusterIP}"}]`,
		Example: `  budcluster release apply web --cluster frankfurt --namespace web --chart ./web --wait
  budcluster release apply web -c frankfurt -n web --chart oci://registry.example.com/charts/web --chart-version 1.2.0
  budcluster release apply web -c frankfurt -n web --chart https://charts.example.com --chart-name web --set replicas=3
  budcluster release apply -f web.yaml --secret-values secrets.yaml --wait`,
		ValidArgsFunction: a.completeReleases(&ap.cluster),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				ap.f.Name = args[0]
			}
			if cmd.Flags().Changed("no-create-namespace") {
				create := !noNamespace
				ap.f.CreateNamespace = &create
			}
			return ap.run(cmd.Context(), cmd.Flags().Changed("if-generation"))
		},
	}
	ap.flags(cmd, &noNamespace)
	return cmd
}

func (ap *apply) flags(cmd *cobra.Command, noNamespace *bool) {
	f := cmd.Flags()
	ap.a.clusterFlag(cmd, &ap.cluster, "the release's cluster")
	f.StringVarP(&ap.file, "file", "f", "", "file that describes the release; - is the standard input")
	f.StringVarP(&ap.f.Namespace, "namespace", "n", "", "namespace to install into; cannot be changed later")
	f.StringVar(&ap.chart, "chart", "", "folder, .tgz, digest, oci://…, URL of a repository, or hub:PATH")
	f.StringVar(&ap.chartName, "chart-name", "", "name of the chart in the repository")
	f.StringVar(&ap.chartVersion, "chart-version", "", "version in the repository or registry (default: the newest stable one)")
	f.StringArrayVar(&ap.values.files, "values", nil, "YAML file with values; may be repeated, later ones stand above")
	f.StringArrayVar(&ap.values.set, "set", nil, "value, as a.b[0]=v or a={x,y}; may be repeated")
	f.StringArrayVar(&ap.values.strings, "set-string", nil, "value that is text whatever it looks like")
	f.StringArrayVar(&ap.values.json, "set-json", nil, "value as JSON, as a.b={\"c\":1}")
	f.StringArrayVar(&ap.secrets.files, "secret-values", nil, "YAML file with values that nobody may see; may be repeated")
	f.StringVar(&ap.f.Timeout, "timeout", "", "for one Helm operation, 10s to 24h (default 5m)")
	f.StringVar(&ap.f.Remediation, "remediation", "", "when it fails: rollback, keep or uninstall (default rollback)")
	f.IntVar(&ap.f.MaxAttempts, "max-attempts", 0, "1 to 100 (default 5)")
	f.StringVar(&ap.f.Drift, "drift", "", "when others change its objects: correct, report or ignore (default correct)")
	f.StringVar(&ap.f.Adoption, "adoption", "", "when a Helm release of the name was there: observe or takeOver (default observe)")
	f.BoolVar(noNamespace, "no-create-namespace", false, "do not create the namespace")
	f.Int64Var(&ap.generation, "if-generation", 0, "only if the release is at this generation; 0: only if it is new")
	f.BoolVar(&ap.wait, "wait", false, "wait until it is ready or has failed, and show how it goes")
	f.DurationVar(&ap.limit, "wait-timeout", 15*time.Minute, "how long to wait")
}

func (ap *apply) run(ctx context.Context, ifGeneration bool) error {
	if err := ap.gather(); err != nil {
		return err
	}
	req, err := ap.f.request()
	if err != nil {
		return err
	}
	c, err := ap.a.connect()
	if err != nil {
		return err
	}
	if ap.chart != "" {
		req.Chart, err = chartSource(ctx, c, ap.chart, ap.chartName, ap.chartVersion)
	} else {
		req.Chart, err = ap.f.Chart.source(ctx, c)
	}
	if err != nil {
		return err
	}
	var only *int64
	if ifGeneration {
		only = &ap.generation
	}
	r, created, err := c.ApplyRelease(ctx, ap.cluster, ap.f.Name, req, only)
	if err != nil {
		return err
	}
	if !ap.wait {
		return ap.print(r, created)
	}
	return ap.await(ctx, c, r)
}

// gather lays the flags over the file and checks what only this side knows.
func (ap *apply) gather() error {
	flags := ap.f
	if ap.file != "" {
		var err error
		if ap.f, err = ap.a.readReleaseFile(ap.file); err != nil {
			return err
		}
		ap.f.over(flags)
	}
	ap.cluster = cmp.Or(ap.cluster, ap.f.Cluster)
	var err error
	if ap.f.Values, err = ap.values.build(ap.f.Values); err != nil {
		return err
	}
	if len(ap.secrets.files) > 0 {
		if ap.f.SecretValues, err = ap.secrets.build(ap.f.SecretValues); err != nil {
			return err
		}
	}
	switch {
	case ap.f.Name == "":
		return usagef("no release is named; give its name as the argument, or in the file of --file")
	case ap.cluster == "":
		return usagef("no cluster is named; give --cluster, or cluster in the file of --file")
	case ap.f.Namespace == "":
		return usagef("no namespace is named; give --namespace, or namespace in the file of --file")
	case ap.chart == "" && ap.f.Chart == (chartFileSource{}):
		return usagef("no chart is given; name one with --chart, or in the file of --file")
	}
	return nil
}

// over replaces what flags set.
func (f *releaseFile) over(flags releaseFile) {
	f.Name = cmp.Or(flags.Name, f.Name)
	f.Namespace = cmp.Or(flags.Namespace, f.Namespace)
	f.Timeout = cmp.Or(flags.Timeout, f.Timeout)
	f.Remediation = cmp.Or(flags.Remediation, f.Remediation)
	f.MaxAttempts = cmp.Or(flags.MaxAttempts, f.MaxAttempts)
	f.Drift = cmp.Or(flags.Drift, f.Drift)
	f.Adoption = cmp.Or(flags.Adoption, f.Adoption)
	if flags.CreateNamespace != nil {
		f.CreateNamespace = flags.CreateNamespace
	}
}

func (ap *apply) print(r hubapi.Release, created bool) error {
	p := ap.a.printer()
	return one(p, r, r.Name, func() {
		said := fmt.Sprintf("is wanted at generation %d", r.Generation)
		switch {
		case created:
			said = "is new and wanted"
		case r.Status.ObservedGeneration == r.Generation:
			said = fmt.Sprintf("is at generation %d already, and %s", r.Generation, r.Status.Phase)
		}
		_, _ = fmt.Fprintf(p.out, "Release %s in cluster %s %s.\n", r.Name, r.Cluster.Name, said)
	})
}

func (ap *apply) await(ctx context.Context, c *hubapi.Client, r hubapi.Release) error {
	ctx, cancel := context.WithTimeoutCause(ctx, ap.limit, errWaited)
	defer cancel()
	g := ap.a.progress()
	done, err := c.WaitRelease(ctx, r.Cluster.ID, r.Name, r.Generation, g.see)
	g.stop()
	if err != nil {
		return waited(err, r, ap.limit)
	}
	p := ap.a.printer()
	return one(p, done, done.Name, func() {
		_, _ = fmt.Fprintf(p.out, "Release %s in cluster %s is %s after %s.\n", done.Name, done.Cluster.Name,
			p.paint(phaseCell(done.Status.Phase)), ago(ap.a.w.Now().Sub(g.start)))
	})
}
