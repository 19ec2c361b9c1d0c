package main

import (
	"context"
	"os"

	"github.com/dapr/dapr/cmd/daprd/options"
	"github.com/dapr/dapr/pkg/healthz"
	"github.com/dapr/dapr/pkg/metrics"
	"github.com/dapr/dapr/pkg/modes"
	"github.com/dapr/dapr/pkg/runtime"
	"github.com/dapr/dapr/pkg/security"
	"github.com/dapr/kit/concurrency"
	"github.com/dapr/kit/logger"
	"github.com/dapr/kit/signals"
	"go.opencensus.io/stats/view"
)

// sidecar is daprd. It takes the flags of the released one, so that what is
// tried with this is what runs with that; it does not start over on SIGHUP.
func sidecar() {
	log := logger.NewLogger("dapr.runtime")
	opts, err := options.New(os.Args[1:])
	if err != nil {
		log.Fatalf("flags: %v", err)
	}
	opts.Logger.SetAppID(opts.AppID)
	if err := logger.ApplyOptionsToLoggers(&opts.Logger); err != nil {
		log.Fatalf("logging: %v", err)
	}
	if err := serve(signals.Context(), opts, log); err != nil {
		log.Fatalf("sidecar: %v", err)
	}
}

func serve(ctx context.Context, opts *options.Options, log logger.Logger) error {
	health := healthz.New()
	identity, err := security.New(ctx, security.Options{
		SentryAddress: opts.SentryAddress, ControlPlaneTrustDomain: opts.ControlPlaneTrustDomain,
		ControlPlaneNamespace: opts.ControlPlaneNamespace, TrustAnchors: opts.TrustAnchors, AppID: opts.AppID,
		MTLSEnabled: opts.EnableMTLS, Mode: modes.DaprMode(opts.Mode), Healthz: health, JwtAudiences: opts.SentryRequestJwtAudiences,
	})
	if err != nil {
		return err
	}
	return concurrency.NewRunnerManager(identity.Run, func(ctx context.Context) error {
		handler, err := identity.Handler(ctx)
		if err != nil {
			return err
		}
		cfg := configOf(opts, log, health)
		cfg.Security = handler
		daprd, err := runtime.FromConfig(ctx, cfg)
		if err != nil {
			return err
		}
		return daprd.Run(ctx)
	}).Run(ctx)
}

// configOf hands the flags on.
func configOf(opts *options.Options, log logger.Logger, health healthz.Healthz) *runtime.Config {
	return &runtime.Config{
		AppID: opts.AppID, ApplicationPort: opts.AppPort, AppProtocol: opts.AppProtocol, AppSSL: opts.AppSSL,
		AppChannelAddress: opts.AppChannelAddress, AppMaxConcurrency: opts.AppMaxConcurrency,
		EnableAppHealthCheck: opts.EnableAppHealthCheck, AppHealthCheckPath: opts.AppHealthCheckPath,
		AppHealthProbeInterval: opts.AppHealthProbeInterval, AppHealthProbeTimeout: opts.AppHealthProbeTimeout,
		AppHealthThreshold: opts.AppHealthThreshold,

		Mode: opts.Mode, Config: opts.Config, ResourcesPath: opts.ResourcesPath, ComponentsPath: opts.ComponentsPath,
		DisableInitEndpoints: opts.DisableInitEndpoints, DisableBuiltinK8sSecretStore: opts.DisableBuiltinK8sSecretStore,
		HotReloadReconcileInterval: opts.HotReloadReconcileInterval,

		DaprHTTPPort: opts.DaprHTTPPort, DaprAPIGRPCPort: opts.DaprAPIGRPCPort, DaprAPIListenAddresses: opts.DaprAPIListenAddresses,
		DaprInternalGRPCPort: opts.DaprInternalGRPCPort, DaprInternalGRPCListenAddress: opts.DaprInternalGRPCListenAddress,
		DaprPublicPort: opts.DaprPublicPort, DaprPublicListenAddress: opts.DaprPublicListenAddress,
		UnixDomainSocket: opts.UnixDomainSocket, AllowedOrigins: opts.AllowedOrigins,
		MaxRequestSize: opts.MaxRequestSize, ReadBufferSize: opts.ReadBufferSize,
		EnableAPILogging: opts.EnableAPILogging, ProfilePort: opts.ProfilePort, EnableProfiling: opts.EnableProfiling,
		DaprGracefulShutdownSeconds: opts.DaprGracefulShutdownSeconds, DaprBlockShutdownDuration: opts.DaprBlockShutdownDuration,

		ActorsService: opts.ActorsService, ActorsDisseminationTimeout: opts.ActorsDisseminationTimeout,
		RemindersService: opts.RemindersService, SchedulerAddress: opts.SchedulerAddress, SchedulerStreams: opts.SchedulerJobStreams,
		ControlPlaneAddress: opts.ControlPlaneAddress, SentryAddress: opts.SentryAddress, EnableMTLS: opts.EnableMTLS,

		Registry: register(logger.NewLogger("dapr.contrib")),
		Healthz:  health,
		Metrics: metrics.Options{
			Enabled: opts.Metrics.Enabled(), Log: log, Port: opts.Metrics.Port(), ListenAddress: opts.Metrics.ListenAddress(),
			Namespace: metrics.DefaultMetricNamespace, Healthz: health, Meter: view.NewMeter(),
		},
	}
}
