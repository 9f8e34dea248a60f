# The commands of commerce-hooks. `make` alone lists them.

SHELL := /bin/sh
PYTHON ?= python3
ENV ?= .local/env
LOCAL := $(PYTHON) tools/local/local.py
# The commands behind make, with the environment of a stack: the local one, or ENV=file made by `make env`.
TOOLS = set -a && . ./$(ENV) && set +a && ./.local/tools

.PHONY: help run stop test secret token events redrive bench env build fmt

help: ## Lists the commands.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

run: ## Builds, starts a local AWS, deploys template.yaml on it, plays the sample events and shows what became of them.
	@$(LOCAL) run

stop: ## Ends the local AWS that `make run` left up.
	@$(LOCAL) stop

test: ## Runs every check and test there is.
	@$(PYTHON) tools/local/check.py

secret: .local/tools ## Prints a webhook secret: PLATFORM=woocommerce CONNECTION=shop.example.com SCOPE=order.updated [GENERATION=1]
	@$(TOOLS) secret $(PLATFORM) $(CONNECTION) $(SCOPE) --generation $(or $(GENERATION),1)

token: .local/tools ## Prints a token for the admin interface, good for 15 minutes: [MINUTES=15]
	@$(TOOLS) token --minutes $(or $(MINUTES),15)

events: .local/tools ## Signs the files in events/ anew, after one was changed or added.
	@./.local/tools events

redrive: .local/tools ## Counts the dead letters, and with RUN=1 brings them back: [REASON=malformed] [RUN=1]
	@$(TOOLS) redrive $(if $(REASON),--reason $(REASON)) $(if $(RUN),--run)

bench: ## Measures the release binaries and writes docs/benchmarks.md.
	@$(PYTHON) tools/local/bench.py

env: ## Prints the environment of a stack on AWS, for ENV=file: STACK=commerce-hooks > my.env
	@$(LOCAL) env $(or $(STACK),commerce-hooks)

build: .local/tools ## Builds the functions and the commands behind make, for local runs.

fmt: ## Formats the code.
	@cargo fmt --all

.local/tools:
	@$(LOCAL) build
