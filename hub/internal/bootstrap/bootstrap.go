package bootstrap

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/budecosystem/budcluster/internal/install"
	"github.com/budecosystem/budcluster/internal/kubeconfig"
)

// Defaults of Config.
const (
	// DefaultCheckTimeout is how long a cluster may take to say who it is.
	DefaultCheckTimeout = 30 * time.Second
	// DefaultInstallTimeout is how long Helm may take.
	DefaultInstallTimeout = 5 * time.Minute
	// DefaultLifetime ends a child that nobody closed, and the kubeconfig with it.
	DefaultLifetime = 30 * time.Minute
	// DefaultLimit is how many children there are at once: each takes some 60 MiB.
	DefaultLimit = 4
)

// Config makes an Installer.
type Config struct {
	// Binary is the path of budcluster-agent.
	Binary string
	// HubAddresses are where agents dial, host:port; HubServerName is the name
	// in the hub's certificate, if it is not the address's host.
	HubAddresses  []string
	HubServerName string
	// Pin is the fingerprint of the hub's authority.
	Pin func(ctx context.Context) (string, error)
	// Addresses limits which API servers are dialed.
	Addresses kubeconfig.Addresses
	// AllowInsecure accepts servers whose certificate nobody checks, for every
	// Request.
	AllowInsecure bool
	Logger        *slog.Logger
	// Namespace and Release are install's defaults when empty.
	Namespace, Release string
	// Now is time.Now when nil.
	Now            func() time.Time
	CheckTimeout   time.Duration
	InstallTimeout time.Duration
	Lifetime       time.Duration
	Limit          int
}

// Installer starts the children.
type Installer struct {
	cfg   Config
	slots chan struct{} // one token per child
}

// New checks cfg and makes an Installer. It starts nothing.
func New(cfg Config) (*Installer, error) {
	if cfg.Binary == "" || len(cfg.HubAddresses) == 0 || cfg.Pin == nil || cfg.Logger == nil {
		return nil, errors.New("bootstrap needs the agent's binary, the hub's addresses and pin, and a logger")
	}
	cfg.Namespace = cmp.Or(cfg.Namespace, install.DefaultNamespace)
	cfg.Release = cmp.Or(cfg.Release, install.DefaultRelease)
	cfg.CheckTimeout = cmp.Or(cfg.CheckTimeout, DefaultCheckTimeout)
	cfg.InstallTimeout = cmp.Or(cfg.InstallTimeout, DefaultInstallTimeout)
	cfg.Lifetime = cmp.Or(cfg.Lifetime, DefaultLifetime)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Installer{cfg: cfg, slots: make(chan struct{}, cmp.Or(cfg.Limit, DefaultLimit))}, nil
}

// Request is one upload.
type Request struct {
	// Kubeconfig is the file. Begin overwrites it with zeros.
	Kubeconfig []byte
	// AllowInsecure accepts a server whose certificate nobody checks.
	AllowInsecure bool
}

// Check says what is wrong with a file, without contacting anybody: an
// invalid.Error for each field.
func (i *Installer) Check(req Request) error {
	req.AllowInsecure = req.AllowInsecure || i.cfg.AllowInsecure
	_, err := i.parse(req)
	return err
}

func (i *Installer) parse(req Request) (*kubeconfig.Config, error) {
	c, err := kubeconfig.Parse(req.Kubeconfig, kubeconfig.Options{
		Now: i.cfg.Now(), AllowInsecure: req.AllowInsecure, Addresses: i.cfg.Addresses,
	})
	if err != nil {
		return nil, asInvalid(err)
	}
	return c, nil
}

// Begin checks the file, starts the child and lets it ask the cluster who it
// is. Nothing is changed there yet. The caller must Close the Run.
//
// A file that cannot be used is an invalid.Error for each field; a cluster that
// cannot be used is an *Error.
func (i *Installer) Begin(ctx context.Context, req Request) (*Run, error) {
	defer clear(req.Kubeconfig)
	req.AllowInsecure = req.AllowInsecure || i.cfg.AllowInsecure
	parsed, err := i.parse(req)
	if err != nil {
		return nil, err
	}
	pin, err := i.cfg.Pin(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the pin of the hub's authority: %w", err)
	}
	select {
	case i.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for other installations to end: %w", context.Cause(ctx))
	}
	r, err := i.start(ctx, parsed.Secrets())
	if err != nil {
		<-i.slots
		return nil, err
	}
	err = r.begin(ctx, install.Request{
		Kubeconfig: string(req.Kubeconfig), AllowInsecure: req.AllowInsecure, Addresses: i.cfg.Addresses,
		Namespace: i.cfg.Namespace, Release: i.cfg.Release,
		Hub: install.Hub{Addresses: i.cfg.HubAddresses, ServerName: i.cfg.HubServerName, Pin: pin},
	})
	if err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}
