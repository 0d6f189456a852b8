# PowerPole: `make` lists what there is. Everything a target needs it installs and says so.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Builds and downloads are kept outside the clone, so that several clones share them.
export POWERPOLE_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/powerpole
export CARGO_TARGET_DIR ?= $(POWERPOLE_CACHE)/target

STAGE ?= stage
AUTO ?=
OUT ?=
BENCH ?=
BIN := .stage/bin

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: install
install: ## Install what the stage needs: packages, databases, AWS stand-ins (asks nothing, says all)
	@stage/install/all.sh

.PHONY: build
build: ## Build the binaries into .stage/bin (first time: about 8 minutes on two cores, 8 GB)
	@stage/install/cargo.sh --bin $(BIN) build --locked --workspace

.PHONY: image
image: build ## Bake the stage's machine image (first time: about 2 minutes)
	@stage/install/image.sh --bin $(BIN)

.PHONY: stage-up
stage-up: install build image ## Bring the local stage up and leave it running
	@$(BIN)/powerpole-stage up --name "$(STAGE)"

.PHONY: stage-down
stage-down: ## Take the local stage down
	@if [ -x $(BIN)/powerpole-stage ]; then $(BIN)/powerpole-stage down --name "$(STAGE)"; fi

.PHONY: demo
demo: install build image ## The main job by hand; AUTO=1 without hands, OUT=DIR keeps the evidence
	@$(BIN)/powerpole-stage demo --name "$(STAGE)" $(if $(AUTO),--auto) $(if $(OUT),--out "$(OUT)")

.PHONY: test
test: lint unit e2e browser ## All tests

.PHONY: lint
lint: ## Formatting, lints, directions of dependencies, shell scripts, licences
	@stage/install/all.sh apt
	@tests/lint.sh

.PHONY: unit
unit: install ## Every unit and integration test on real parts; both verifiers against each other
	@tests/unit.sh
	@tests/verifier/run.sh $(BIN)/powerpole

.PHONY: e2e
e2e: install build image ## The whole main job and the bad cases, end to end on real parts
	@tests/e2e.sh

.PHONY: browser
browser: install build image ## The workspace page in a real browser, judged by Slack's own libraries
	@tests/browser.sh

.PHONY: bench
bench: ## Recording and verifying beside script, asciinema, tlog, sudo, journalctl: a table (10 minutes after building)
	@tests/bench/run.sh $(BENCH)

.PHONY: clean
clean: stage-down ## Take the stage down and remove what this clone made (caches stay)
	@rm -rf .stage
