# Rockpool's commands. `make help` lists them.
#
# Everything is built with the release profile, so that what is shown, tested and measured is what ships, and nothing
# is compiled twice (docs/decisions/0002-one-build.md).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
KEEP ?=
SEEDS ?= 200
MINUTES ?= 10

.PHONY: help setup build demo test lint unit simulate campaign bench clean

help: ## This list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

setup: ## Install what the build needs (Debian; elsewhere it names the packages)
	@scripts/setup

build: setup ## Build rockpool-node, rockpool and rockpool-bench into target/release
	$(CARGO) build --release --locked -p rockpool-sqlnode -p rockpool-peer -p rockpool-bench

demo: setup ## Show the whole thing working in two minutes; KEEP=1 leaves it running
	$(CARGO) build --release --locked -p rockpool-sqlnode -p rockpool-peer -p rockpool-e2e
	target/release/rockpool-demo $(if $(KEEP),--keep)

test: setup lint unit simulate ## Everything that CI checks

lint: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings

unit: setup
	$(CARGO) build --release --locked -p rockpool-sqlnode -p rockpool-peer -p rockpool-bench
	$(CARGO) test --release --locked --workspace

simulate: setup ## The simulator's smoke seeds, each run twice; SEEDS=200
	$(CARGO) run --release --locked -p rockpool-sim -- --seeds $(SEEDS) --twice

campaign: setup ## A longer simulation; MINUTES=10
	$(CARGO) run --release --locked -p rockpool-sim -- --minutes $(MINUTES)

bench: build ## Measure what docs/performance.md states
	target/release/rockpool-bench all

clean: ## Remove what was built and what the demonstration left
	$(CARGO) clean
	rm -rf demo-data
