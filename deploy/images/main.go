// Command images packs the static binaries of this repository into container
// images, with no container engine and no base image to pull:
//
//	bin/budcluster-agent ─┐                    ┌─► dist/budcluster-agent.tar   docker-archive
//	bin/budcluster-hub   ─┼─► pack.Image ──────┼─► dist/budcluster-hub.tar     docker-archive
//	CA certificates      ─┘                    └─► dist/oci                    one OCI layout with all of them
//
// The hub's image has the agent's program too, in the very layer of the agent's
// image.
//
// A docker-archive is what `docker load`, `podman load` and `ctr images import`
// read; the layout is what skopeo, oras and crane push. The same input gives
// the same digest (times are SOURCE_DATE_EPOCH), and an image over its size
// limit is an error.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/budecosystem/budcluster/deploy/images/pack"
)

// systemBundle is where Debian, Ubuntu and Alpine keep the CA certificates.
const systemBundle = "/etc/ssl/certs/ca-certificates.crt"

// The agent's limits are promises of the product: it is pulled to every
// cluster, over the sites' slow lines.
const (
	megabyte         = 1_000_000
	agentBinaryLimit = 60 * megabyte
	agentImageLimit  = 25 * megabyte
)

type options struct {
	bin, out, registry string
	version, revision  string
	arch, caBundle     string
	created            time.Time
	certificates       []byte
}

func main() {
	if err := run(os.Args[1:], os.Getenv("SOURCE_DATE_EPOCH"), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func run(args []string, epoch string, stdout io.Writer) error {
	o, err := parse(args, epoch)
	if err != nil {
		return err
	}
	if o.certificates, err = readBundle(o.caBundle, stdout); err != nil {
		return err
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return fmt.Errorf("make output folder: %w", err)
	}
	ociDir := filepath.Join(o.out, "oci")
	if err := os.RemoveAll(ociDir); err != nil {
		return fmt.Errorf("empty OCI layout: %w", err)
	}
	oci, err := layout.Write(ociDir, empty.Index)
	if err != nil {
		return fmt.Errorf("start OCI layout: %w", err)
	}
	for _, spec := range o.specs() {
		if err := write(o, spec, oci, stdout); err != nil {
			return fmt.Errorf("%s: %w", spec.Reference, err)
		}
	}
	return nil
}

func parse(args []string, epoch string) (options, error) {
	var o options
	fs := flag.NewFlagSet("images", flag.ContinueOnError)
	fs.StringVar(&o.bin, "bin", "bin", "folder of the static binaries")
	fs.StringVar(&o.out, "out", "dist", "folder to write to")
	fs.StringVar(&o.registry, "registry", "ghcr.io/budecosystem", "registry and path that the images are named for")
	fs.StringVar(&o.version, "version", "", "version: the images' tag")
	fs.StringVar(&o.revision, "revision", "", "commit that the binaries are built from")
	fs.StringVar(&o.arch, "arch", runtime.GOARCH, "architecture that the binaries are built for")
	fs.StringVar(&o.caBundle, "ca-bundle", systemBundle, "PEM file of CA certificates to put in; empty for none")
	if err := fs.Parse(args); err != nil {
		return options{}, err
	}
	if o.version == "" {
		return options{}, errors.New("--version is empty; give the version that the binaries were built with")
	}
	if epoch != "" {
		seconds, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil {
			return options{}, fmt.Errorf("SOURCE_DATE_EPOCH %q is no number of seconds: %w", epoch, err)
		}
		o.created = time.Unix(seconds, 0).UTC()
	} else {
		o.created = time.Unix(0, 0).UTC()
	}
	return o, nil
}

// readBundle returns the CA certificates. The system's bundle may be missing,
// one that was asked for may not: the agent needs it only for https:// proxies
// and the hub for chart repositories.
func readBundle(path string, stdout io.Writer) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && path == systemBundle {
		_, err = fmt.Fprintf(stdout, "note: %s is missing (package ca-certificates); the images will trust no public CA\n", path)
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("read CA bundle: %w", err)
	}
	return pem, nil
}

func (o options) specs() []pack.Spec {
	common := pack.Spec{
		Version: o.version, Revision: o.revision, Architecture: o.arch,
		Created: o.created, Certificates: o.certificates,
	}
	agent, hub := common, common
	agent.Reference = o.registry + "/budcluster-agent:" + o.version
	agent.Title = "BudCluster agent"
	agent.Description = "Connects a Kubernetes cluster to a BudCluster hub"
	agent.Binary = filepath.Join(o.bin, "budcluster-agent")
	agent.Arguments = []string{"run"}
	agent.BinaryLimit, agent.ImageLimit = agentBinaryLimit, agentImageLimit

	hub.Reference = o.registry + "/budcluster-hub:" + o.version
	hub.Title = "BudCluster hub"
	hub.Description = "Knows and steers a fleet of Kubernetes clusters, and holds no key to any of them"
	hub.Binary = filepath.Join(o.bin, "budcluster-hub")
	// The hub runs the agent's program to install an agent with a kubeconfig: it has no Kubernetes client of its own.
	hub.Further = []string{agent.Binary}
	hub.Arguments = []string{"serve"}
	hub.StateDir = "/var/lib/budcluster"
	hub.Environment = []string{"BUDCLUSTER_STATE_DIR=/var/lib/budcluster"}
	return []pack.Spec{agent, hub}
}

func write(o options, spec pack.Spec, oci layout.Path, stdout io.Writer) error {
	image, size, err := pack.Image(spec)
	if err != nil {
		return err
	}
	archive := filepath.Join(o.out, filepath.Base(spec.Binary)+".tar")
	if err := pack.WriteArchive(archive, spec.Reference, image); err != nil {
		return err
	}
	if err := pack.Append(oci, spec, image); err != nil {
		return err
	}
	digest, err := image.Digest()
	if err != nil {
		return fmt.Errorf("digest: %w", err)
	}
	_, err = fmt.Fprintf(stdout, "%-50s binary %5.1f MB, image %5.1f MB compressed, %s\n%50s %s\n",
		spec.Reference, float64(size.Binary)/megabyte, float64(size.Image)/megabyte, digest, "→", archive)
	return err
}
