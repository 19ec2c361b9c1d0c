package main

import (
	"github.com/dapr/components-contrib/bindings/cron"
	configpostgres "github.com/dapr/components-contrib/configuration/postgres"
	configredis "github.com/dapr/components-contrib/configuration/redis"
	"github.com/dapr/components-contrib/nameresolution/mdns"
	pubsubmemory "github.com/dapr/components-contrib/pubsub/in-memory"
	pubsubredis "github.com/dapr/components-contrib/pubsub/redis"
	secretenv "github.com/dapr/components-contrib/secretstores/local/env"
	secretfile "github.com/dapr/components-contrib/secretstores/local/file"
	statememory "github.com/dapr/components-contrib/state/in-memory"
	statepostgres "github.com/dapr/components-contrib/state/postgresql/v2"
	stateredis "github.com/dapr/components-contrib/state/redis"
	"github.com/dapr/dapr/pkg/components"
	"github.com/dapr/dapr/pkg/components/bindings"
	"github.com/dapr/dapr/pkg/components/configuration"
	"github.com/dapr/dapr/pkg/components/nameresolution"
	"github.com/dapr/dapr/pkg/components/pubsub"
	"github.com/dapr/dapr/pkg/components/secretstores"
	"github.com/dapr/dapr/pkg/components/state"
	"github.com/dapr/dapr/pkg/runtime/registry"
	"github.com/dapr/kit/logger"
)

// register is the list of what a component file may name.
func register(log logger.Logger) *registry.Options {
	state.DefaultRegistry.Logger = log
	state.DefaultRegistry.RegisterComponent(stateredis.NewRedisStateStore, "redis")
	state.DefaultRegistry.RegisterComponent(statememory.NewInMemoryStateStore, "in-memory")
	// Version 1 keeps another table and is not what new installations use.
	state.DefaultRegistry.RegisterComponentWithVersions("postgresql", components.Versioning{
		Preferred: components.VersionConstructor{Version: "v2", Constructor: statepostgres.NewPostgreSQLStateStore},
		Default:   "v2",
	})
	pubsub.DefaultRegistry.Logger = log
	pubsub.DefaultRegistry.RegisterComponent(pubsubredis.NewRedisStreams, "redis")
	pubsub.DefaultRegistry.RegisterComponent(pubsubmemory.New, "in-memory")
	configuration.DefaultRegistry.Logger = log
	configuration.DefaultRegistry.RegisterComponent(configredis.NewRedisConfigurationStore, "redis")
	configuration.DefaultRegistry.RegisterComponent(configpostgres.NewPostgresConfigurationStore, "postgresql", "postgres")
	secretstores.DefaultRegistry.Logger = log
	secretstores.DefaultRegistry.RegisterComponent(secretfile.NewLocalSecretStore, "local.file")
	secretstores.DefaultRegistry.RegisterComponent(secretenv.NewEnvSecretStore, "local.env")
	bindings.DefaultRegistry.Logger = log
	bindings.DefaultRegistry.RegisterInputBinding(cron.NewCron, "cron")
	nameresolution.DefaultRegistry.Logger = log
	nameresolution.DefaultRegistry.RegisterComponent(mdns.NewResolver, "mdns")
	return registry.NewOptions().
		WithStateStores(state.DefaultRegistry).
		WithPubSubs(pubsub.DefaultRegistry).
		WithConfigurations(configuration.DefaultRegistry).
		WithSecretStores(secretstores.DefaultRegistry).
		WithBindings(bindings.DefaultRegistry).
		WithNameResolutions(nameresolution.DefaultRegistry)
}
