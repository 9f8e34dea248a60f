# The commands of commerce-hooks. `make` alone lists them.

SHELL := /bin/sh
export VERBOSE
PYTHON ?= python3
ENV ?= .local/env
LOCAL := $(PYTHON) tools/local/local.py
# The commands behind make, with the environment of a stack: the local one, or ENV=file made by `make env`.
TOOLS = test -f "$(ENV)" || { echo "$(ENV) is missing: \`make run\` makes .local/env, \`make env\` one for a stack on AWS" >&2; exit 1; } && set -a && . "$(abspath $(ENV))" && set +a && ./.local/tools

.PHONY: help run send state stop test fuzz secret token events redrive trace verify bench faults figures cost pages env retained fmt

help: ## Lists the commands.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

run: ## Builds, starts a local AWS, deploys template.yaml on it, plays all platforms and shows the outcomes: [VERBOSE=1]
	@$(LOCAL) run

send: ## Sends a sample event to the stack of `make run`: EVENT=woocommerce/018-order_created
	@$(LOCAL) send "$(EVENT)"

state: ## Prints the entities of a store there: PLATFORM=woocommerce CONNECTION=shop.example.com [KIND=order] [VERBOSE=1]
	@$(LOCAL) state "$(PLATFORM)" "$(CONNECTION)" "$(KIND)"

stop: ## Ends the local AWS and the simulated platforms of `make run`.
	@$(LOCAL) stop

test: ## Runs every check and test.
	@$(PYTHON) tools/local/check.py

fuzz: ## Fuzzes each reader of bytes of strangers: [FOR=60] seconds each, [TARGET=envelope], [STABLE=1] without a nightly toolchain
	@FOR="$(FOR)" TARGET="$(TARGET)" STABLE="$(STABLE)" $(PYTHON) tools/local/fuzz.py

secret: tools ## Prints a webhook secret: PLATFORM=woocommerce CONNECTION=shop.example.com SCOPE=order.updated [GENERATION=1]
	@$(TOOLS) secret $(PLATFORM) $(CONNECTION) $(SCOPE) --generation $(or $(GENERATION),1)

token: tools ## Prints a token for the admin interface: [MINUTES=15] [SCOPES="read write"] (also reveal, rotate) [FOR=name]
	@$(TOOLS) token --minutes $(or $(MINUTES),15) --scopes "$(or $(SCOPES),read write)" $(if $(FOR),--for "$(FOR)")

events: tools ## Signs the files in events/ again, after one was changed or added.
	@./.local/tools events

redrive: tools ## Counts the dead letters, and with RUN=1 brings them back: [QUEUE=jobs] [REASON=malformed] [RUN=1]
	@$(TOOLS) redrive $(if $(QUEUE),--queue $(QUEUE)) $(if $(REASON),--reason $(REASON)) $(if $(RUN),--run)

trace: ## Follows one delivery by the x-trace-id that its sender was given: ID=JKJaXmPLvHcESHA= [HOURS=24]
	@test -f "$(ENV)" || { echo "$(ENV) is missing: \`make run\` makes .local/env, \`make env\` one for a stack on AWS" >&2; exit 1; }
	@set -a && . "$(abspath $(ENV))" && set +a && $(PYTHON) tools/local/trace.py "$(ID)" $(HOURS)

verify: tools ## Compares stores with their APIs: [PLATFORM=woocommerce CONNECTION=shop.example.com] [SAMPLE=20] [FULL=1] [REPAIR=1] [FORMAT=json]
	@$(TOOLS) verify $(PLATFORM) $(CONNECTION) $(if $(FULL),--full,$(if $(SAMPLE),--sample $(SAMPLE))) $(if $(REPAIR),--repair) $(if $(FORMAT),--format $(FORMAT))

bench: tools ## Measures the release binaries beside others and writes docs/benchmarks.md: [BASE=folder of earlier binaries]
	cargo build --release --locked -p receiver -p processor -p publisher -p sender -p registrar
	cargo build --release --locked -p tools --bin nothing
	python3 -m venv .local/peers
	.local/peers/bin/pip install --quiet --disable-pip-version-check --requirement tests/bench/peers/python/requirements.lock
	npm ci --silent --no-audit --no-fund --prefix tests/bench/peers/node
	@./.local/tools bench $(if $(BASE),--base $(BASE))

faults: ## Drives the release binaries through AWS, platforms and clocks that fail, and writes docs/faults.md: [SEED=7] [FAULT="stale reads"] [DELIVERIES=3000]
	cargo build --release --locked -p receiver -p processor -p publisher -p registrar
	cargo run --quiet --locked -p tests --bin faults -- $(if $(FAULT)$(DELIVERIES),,--output docs/faults.md)

figures: ## Counts and measures sweeps over 1,000 to 100,000 connections in memory, and writes docs/sweep.md.
	cargo build --release --locked -p tests --bin figures
	@$${CARGO_TARGET_DIR:-target}/release/figures | grep -v '^{' > docs/sweep.md

cost: ## Counts the cost of a million deliveries, by platform, and writes docs/costs.md.
	@cargo run --quiet --locked -p tests --bin cost | grep -v '^{' > docs/costs.md; cat docs/costs.md

pages: ## Writes the files that are made from the code: the OpenAPI description, docs/admin-api.md, and the tables of docs/state.md.
	@WRITE_PAGES=1 cargo test --quiet --locked -p tests --test path -- generated

env: ## Prints the environment of a stack on AWS, for ENV=file: STACK=commerce-hooks > my.env
	@$(LOCAL) env $(or $(STACK),commerce-hooks)

retained: ## Writes the input for CloudFormation to import what a deleted stack left: FILE=names.json OUT=folder
	@$(PYTHON) tools/local/retained.py "$(FILE)" "$(OUT)"

fmt: ## Formats the code.
	@cargo fmt --all

.PHONY: tools
tools:
	@$(LOCAL) tools
