# BudCluster. `make help` lists the targets; every one works on a fresh clone.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

# One set of flags for everything, so that all of it shares one build cache.
# VCS stamping is off because it would make every commit a new binary.
export GOFLAGS := -trimpath -buildvcs=false
export CGO_ENABLED := 0
# Where cgo is on: go-nvml wraps all of NVML, and what of it is deprecated would
# be 30 warnings in each build; and NVML's functions are looked up when they are
# called, which some toolchains would have done at the start.
export CGO_CFLAGS := -g -O2 -Wno-deprecated-declarations
export CGO_LDFLAGS := -g -O2 -Wl,-z,lazy

MODULE    := github.com/budecosystem/budcluster
VERSION   := $(shell sed -n 's/^appVersion: "\(.*\)"/\1/p' charts/budcluster-agent/Chart.yaml)
REVISION  := $(shell git rev-parse HEAD 2>/dev/null)
LDFLAGS   := -s -w -X $(MODULE)/internal/buildinfo.version=$(VERSION)
ARCH      ?= $(shell go env GOARCH 2>/dev/null)
LINT      := bin/golangci-lint
BUF       := go tool -modfile=tools/proto/go.mod buf
SQLC      := go tool -modfile=tools/sqlc/go.mod sqlc
E2E       := deploy/e2e

# Where the tests with a real API server find etcd and kube-apiserver.
KUBE_BIN_DIR ?= $(CURDIR)/bin/kube
# Where the tests with a real Dapr find daprd, placement and scheduler.
DAPR_BIN_DIR ?= $(CURDIR)/bin/dapr
# Selects end-to-end tests: make e2e RUN='Join|Revoke'
RUN       ?=
# make bench BENCHTIME=1x: every benchmark once
BENCHTIME ?= 1s
# Selects packages: make test PKG=./hub/...
PKG       ?= ./...
TESTFLAGS ?=

##@ Start here

.PHONY: help
help: ## List the targets.
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' Makefile

.PHONY: demo
demo: setup-cluster build images $(if $(KUBECONFIG),,cluster-build) ## Start a hub and a cluster, join them, install a release, print what to type next.
	cd $(E2E) && go run ./cmd/demo up

.PHONY: demo-down
demo-down: ## Stop what `make demo` started.
	cd $(E2E) && go run ./cmd/demo down

##@ Develop

# The agent goes to every cluster over the sites' lines, so it is made smaller than Go makes it by itself: no inlining in the
# libraries that it seldom runs (4 MB), functions aligned to 16 bytes (1 MB), gRPC without its trace pages (0.3 MB). 64 MB become 58.
SELDOM := k8s.io sigs.k8s.io helm.sh oras.land go.yaml.in gopkg.in github.com/google/gnostic-models github.com/Masterminds \
	github.com/lib/pq github.com/go-gorp github.com/jmoiron github.com/rubenv github.com/santhosh-tekuri github.com/cloudflare \
	github.com/ProtonMail github.com/BurntSushi github.com/json-iterator github.com/go-openapi github.com/emicklei
AGENT_FLAGS := -tags=grpcnotrace $(foreach p,$(SELDOM),-gcflags='$(p)/...=-l')

.PHONY: build
build: bin/budcluster-hub bin/budcluster-agent bin/budcluster ## Build bin/budcluster-hub, bin/budcluster-agent and bin/budcluster (static, stripped).

# Go knows better than make what is out of date.
.PHONY: bin/budcluster-hub bin/budcluster-agent bin/budcluster
bin/budcluster-hub:
	@echo "==> build hub $(VERSION) for $(ARCH)"
	@GOARCH=$(ARCH) go build -ldflags '$(LDFLAGS)' -o $@ ./hub/cmd/hub
bin/budcluster-agent:
	@echo "==> build agent $(VERSION) for $(ARCH) (the first time about 3 minutes: the Kubernetes and Helm libraries)"
	@GOARCH=$(ARCH) go build $(AGENT_FLAGS) -ldflags '$(LDFLAGS) -funcalign=16' -o $@ ./agent/cmd/agent
.PHONY: next-agent
next-agent: ## Build the agent under another version (make e2e does, for the test in which it replaces itself).
	@GOARCH=$(ARCH) go build $(AGENT_FLAGS) -ldflags '$(LDFLAGS)-next -funcalign=16' -o dist/next/budcluster-agent ./agent/cmd/agent
bin/budcluster:
	@echo "==> build command $(VERSION) for $(ARCH)"
	@GOARCH=$(ARCH) go build -ldflags '$(LDFLAGS)' -o $@ ./cli/cmd/budcluster

.PHONY: gen
gen: ## Generate code: protobuf (proto/), SQL (hub/internal/store/sqlcgen).
	@echo "==> generate (the first time some minutes: buf and sqlc are built)"
	$(BUF) generate
	$(SQLC) generate

.PHONY: fmt
fmt: $(LINT) ## Format all Go files (gofumpt, gci).
	$(LINT) fmt

.PHONY: lint
lint: $(LINT) ## Run golangci-lint.
	@echo "==> lint (the first time some minutes: everything is type-checked)"
	$(LINT) run --allow-serial-runners

##@ Verify

.PHONY: test
test: setup-test kube-build dapr-build ## Run all tests: unit, race detector, PostgreSQL, a real API server, a real Dapr. PKG=./hub/... narrows it.
	@echo "==> test with the race detector (the first time about 8 minutes on 2 cores: everything is compiled once more for it)"
	KUBE_BIN_DIR='$(KUBE_BIN_DIR)' DAPR_BIN_DIR='$(DAPR_BIN_DIR)' CGO_ENABLED=1 go test -json -race -shuffle=on -timeout=20m $(TESTFLAGS) $(PKG) | go run ./tools/testsummary -name test

.PHONY: e2e
e2e: setup-cluster build images cluster-build ## Run the tests on a real cluster of two nodes (needs root). RUN=<regex> selects.
	@echo "==> end-to-end tests (a cluster is up in about 20 s; all tests take some minutes)"
	cd $(E2E) && go test -json -tags=e2e -count=1 -timeout=60m $(if $(RUN),-run '$(RUN)') $(TESTFLAGS) ./... | (cd $(CURDIR) && go run ./tools/testsummary -name e2e -v)

# RUN='TestOneCrashPerRun/(nothing|hub/0[0-4])' runs a part; the rows of the table are appended to dist/crashes.md.
.PHONY: e2e-crashes
e2e-crashes: setup-cluster build images cluster-build ## Crash agent and PostgreSQL at every step of register and remove, then hub, agent and PostgreSQL once in each run (about two hours).
	@echo "==> crashes (about two hours; RUN=TestOthersCrashAtEveryStep takes some minutes)"
	cd $(E2E) && CRASHES_TABLE='$(CURDIR)/dist/crashes.md' go test -json -tags=e2e,crashes -count=1 -timeout=5h -run '$(or $(RUN),TestOthersCrashAtEveryStep|TestAbsentImage|TestOneCrashPerRun)' ./suite | (cd $(CURDIR) && go run ./tools/testsummary -name e2e-crashes -v)

.PHONY: bench
bench: setup-test kube-build ## Run the benchmarks and print them against their baselines. BENCHTIME=1x runs each once.
	@echo "==> benchmarks"
	KUBE_BIN_DIR='$(KUBE_BIN_DIR)' go test -run='^$$' -bench=. -benchmem -benchtime=$(BENCHTIME) $$(go run ./deploy/bench -packages) | go run ./deploy/bench

.PHONY: check
check: check-static test ## Everything that CI wants but the real cluster: format, lint, generated code, tests.

.PHONY: check-static
check-static: check-fmt lint check-gen ## The part of `make check` that runs no test.

.PHONY: check-fmt
check-fmt: $(LINT)
	@echo "==> format"
	$(LINT) fmt --diff

# Compares before and after, so that it is right in a tree with uncommitted work too.
GENERATED = find proto hub/internal/store/sqlcgen -name '*.go' -exec grep -l 'DO NOT EDIT' {} + | LC_ALL=C sort | xargs sha256sum
.PHONY: check-gen
check-gen:
	@echo '==> generated code is what make gen makes'
	$(BUF) lint
	$(SQLC) diff
	@before=$$($(GENERATED)); $(MAKE) --no-print-directory gen; after=$$($(GENERATED)); \
	if [ "$$before" != "$$after" ]; then \
		echo "generated code was out of date; it is regenerated now, review and commit it:"; \
		diff <(echo "$$before") <(echo "$$after"); exit 1; \
	fi

##@ Ship

.PHONY: images
images: build ## Pack the binaries into container images: dist/*.tar (docker-archive) and dist/oci (OCI layout).
	SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2>/dev/null || echo 0)} \
		go run ./deploy/images -version '$(VERSION)' -revision '$(REVISION)' -arch '$(ARCH)'

##@ Prepare (the other targets call these)

.PHONY: cluster-build
cluster-build: ## Build Kubernetes, etcd, CoreDNS, kwok and Helm for the real cluster (once: about 10 minutes on 2 cores).
	cd $(E2E) && go run ./cmd/cluster build

# The harness names its binaries by their sources' digest; the tests look for them under their own names.
.PHONY: kube-build
kube-build: ## Build only the API server and etcd, for `make test` (once: about 7 minutes on 2 cores).
	@mkdir -p '$(KUBE_BIN_DIR)'; \
	built=$$(cd $(E2E) && go run ./cmd/cluster build kube etcd); \
	ln -sfn "$$(awk '$$1 == "kube" {print $$2}' <<<"$$built")" '$(KUBE_BIN_DIR)/kube-apiserver'; \
	ln -sfn "$$(awk '$$1 == "etcd" {print $$2}' <<<"$$built")" '$(KUBE_BIN_DIR)/etcd'

.PHONY: dapr-build
dapr-build: ## Build the Dapr runtime, for `make test` (once: some 11 minutes of CPU).
	@mkdir -p '$(DAPR_BIN_DIR)'; \
	built=$$(go run ./deploy/dapr/cmd/build); \
	for role in daprd placement scheduler; do ln -sfn "$$built" '$(DAPR_BIN_DIR)'/$$role; done

.PHONY: setup-test
setup-test:
	@deploy/setup.sh test

.PHONY: setup-cluster
setup-cluster:
	@deploy/setup.sh cluster

.PHONY: hooks
hooks: ## Use the repository's git hooks in this clone.
	git config core.hooksPath .githooks

$(LINT): tools/lint/go.mod tools/lint/go.sum
	@echo "==> build golangci-lint (once: 2 to 5 minutes; some 400 packages)"
	go build -modfile=tools/lint/go.mod -ldflags='-s -w' -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
