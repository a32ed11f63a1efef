# `make` alone prints the targets. What make cannot say well is said in xtask/.

# Where rustup puts cargo, for shells that have not read its environment yet.
export PATH := $(PATH):$(HOME)/.cargo/bin

# Chosen by target, not by package: cargo then resolves features over the whole workspace, and each dependency is compiled once.
XTASK = cargo run --quiet --release --bin xtask --
# What was built last: stopping must work when the code just edited does not compile.
BUILT = $(or $(CARGO_TARGET_DIR),target)/release/xtask
BUILT_XTASK = $(if $(wildcard $(BUILT)),$(BUILT),$(XTASK))

.DEFAULT_GOAL := help
.PHONY: help run run-edge up down token check test soak e2e bench bench-pools bench-edge corpus fuzz wasm npm bundle build tools lint docs fmt clean-run cargo
.NOTPARALLEL:

help: ## Print this
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20
	@echo
	@echo "Variables for run and up: UPSTREAM=host:port CONFIG=path.json CONCURRENCY=n ENVOY_PORT=10000 ADMIN_PORT=9901"
	@echo "COMPANION_PORT=8000 INGEST_PORT=8001 DATA_DIR=.run DATABASE_URL REDIS_URL; ENVOY=path uses your own Envoy."
	@echo "For corpus: VIA=envoy CONFIG=path.json REASONS=1 JSON=1 LIST=file.jsonl (what became of each request)"

run: build ## Start everything in the foreground and print what to try; Ctrl-C stops it
	@$(XTASK) run

up: build ## The same in the background; returns when it is ready
	@$(XTASK) up

run-edge: cargo ## Run the example worker of plugins/edge in workerd and print what to try; Ctrl-C stops it
	@$(XTASK) run-edge

down: cargo ## Stop what `make up` started
	@$(BUILT_XTASK) down

token: cargo ## Print a token for the companion's API, of one tenant with TENANT=name
	@$(BUILT_XTASK) token

check: build ## Check the module configuration CONFIG=path.json
	@$(XTASK) check

test: cargo ## Install and build what the tests need, run all of them, print the count
	@$(XTASK) test

soak: cargo ## Outages at full scale, for hours: 1,000 kills, ten minutes without a store, a million changed trails; SCALE=10 for a tenth
	@$(XTASK) install
	@PORTCULLIS_SOAK=$(or $(SCALE),100) cargo test --release --workspace --test apply -- --nocapture no_invalid_index
	@cargo test --release --workspace --test keyring -- --nocapture moved
	@PORTCULLIS_SOAK=$(or $(SCALE),100) cargo test --release --workspace --test log -- --nocapture
	@PORTCULLIS_SOAK=$(or $(SCALE),100) cargo test --release --workspace --test companion -- --nocapture --test-threads 1 outage
	@$(XTASK) wasm --for-tests
	@PORTCULLIS_SOAK=$(or $(SCALE),100) cargo test --release --workspace --test e2e -- --nocapture whoever_is_killed

e2e: build ## Run the end-to-end tests alone
	@$(XTASK) wasm --for-tests
	@cargo test --release --workspace --test e2e

bench: build ## Measure what Portcullis adds to a request; ARGS=--help tells what can be chosen
	@$(XTASK) bench -- $(ARGS)

bench-database: cargo ## Advise on a workload, build it, measure: WORKLOAD=folder BUDGET=105MB URL=postgres://... SKIP=02,17
	@WORKLOAD='$(WORKLOAD)' BUDGET='$(BUDGET)' URL='$(URL)' SKIP='$(SKIP)' PROVE='$(PROVE)' SIZES='$(SIZES)' \
	  cargo run --quiet --release --example bench

bench-pools: cargo ## 500 tenants' databases under 100 connections: outages, a noisy neighbour, what watching costs; /metrics and readiness
	@$(XTASK) install
	@PORTCULLIS_POOLS=full cargo test --release --workspace --test pool -- --nocapture --test-threads 1 fleet:: overhead::
	@PORTCULLIS_POOLS=full cargo test --release --workspace --test companion -- --nocapture --test-threads 1 load::

bench-edge: cargo ## Measure what the npm package takes of a request in workerd, beside plain JavaScript
	@$(XTASK) bench-edge

endurance: wasm ## Send REQUESTS (1,000,000), and those of KEYS (10,000,000) users, through a module: its memory must not grow
	@REQUESTS=$(or $(REQUESTS),1000000) KEYS=$(or $(KEYS),10000000) cargo test --release --workspace --test wasm -- --nocapture \
	  cost::memory_does_not_grow_with_requests cost::memory_does_not_grow_with_keys cost::a_worker_is_ready

corpus: $(if $(filter envoy,$(VIA)),build,cargo) ## Count what of recorded requests is refused: CORPUS=folder [VIA=envoy]
	@cargo run --quiet --release --bin corpus -- $(if $(VIA),--via $(VIA)) \
	  $(if $(CONFIG),--config '$(CONFIG)') $(if $(REASONS),--reasons) $(if $(JSON),--json) $(if $(LIST),--list '$(LIST)')

fuzz: cargo ## Look for inputs that break a property: SECONDS=60 for each target, or for one with TARGET=name
	@$(XTASK) fuzz --seconds $(or $(SECONDS),60) $(if $(TARGET),--target '$(TARGET)')

wasm: cargo ## Build the modules into dist/ and print their sizes
	@$(XTASK) wasm

npm: cargo ## Build the npm package for JavaScript edges into dist/npm
	@$(XTASK) npm

bundle: cargo ## Write all that is published into dist/: modules, npm package, image layout, manifests; IMAGE=registry/name
	@$(XTASK) bundle

build: tools ## Build the companion and the module that `make run` needs
	@echo "building; from nothing this takes some minutes"
	@$(XTASK) charts
	@cargo build --release --workspace --bin portcullis --bin xtask
	@$(XTASK) wasm --whole-only

tools: cargo ## Install what is missing: Rust's wasm target, and Envoy into .tools/
	@$(XTASK) install

lint: cargo ## Formatting, clippy, and what `cargo xtask tidy` checks
	@cargo fmt --all --check
	@cargo fmt --check --manifest-path fuzz/Cargo.toml
	@cargo clippy --workspace --all-targets -- -D warnings
	@$(XTASK) tidy

docs: cargo ## Write the configuration's reference and JSON Schema into docs/
	@$(XTASK) docs

fmt: cargo ## Format all code
	@cargo fmt --all
	@cargo fmt --manifest-path fuzz/Cargo.toml

clean-run: down ## Forget all state of `make run` and `make up`: database, secrets, logs
	@$(XTASK) clean-run

cargo:
	@command -v cargo >/dev/null || { echo "portcullis: cargo is missing: install Rust from https://rustup.rs" >&2; exit 1; }
