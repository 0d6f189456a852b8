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
GUARD := stage/install/guard.sh

# What a target needs is made in the order in which it stands there, also by `make -j`: the guards come first.
.NOTPARALLEL:

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: root name out
root:
	@$(GUARD) root
name:
	@$(GUARD) name "$(STAGE)"
out:
	@$(GUARD) out "$(OUT)"

.PHONY: install
install: root ## Install what the stage needs: packages, databases, AWS stand-ins (asks nothing, says all)
	@stage/install/all.sh

.PHONY: build
build: ## Build the binaries into .stage/bin (first time: about 8 minutes on two cores, 8 GB)
	@stage/install/cargo.sh --bin $(BIN) build --locked --workspace

.PHONY: image
image: root build ## Bake the stage's machine image (seconds; 70 more for its base, once)
	@stage/install/image.sh --bin $(BIN)

.PHONY: stage-up
stage-up: root name install build image ## Bring the local stage up and leave it running
	@$(BIN)/powerpole-stage up --name "$(STAGE)"

.PHONY: stage-down
stage-down: root name ## Take the local stage down (STAGE=NAME, if it has a name of its own)
	@program=$$($(GUARD) program "$(STAGE)"); "$$program" down --name "$(STAGE)"

.PHONY: demo
demo: root name out install build image ## The main job by hand; AUTO=1 without hands, OUT=DIR keeps the evidence
	@$(BIN)/powerpole-stage demo --name "$(STAGE)" $(if $(AUTO),--auto) $(if $(OUT),--out "$(OUT)")

.PHONY: test
test: root lint unit e2e browser ## All tests

.PHONY: lint
lint: ## Formatting, lints, directions of dependencies, shell scripts, licences
	@stage/install/all.sh apt
	@tests/lint.sh

.PHONY: unit
unit: install build ## Every unit and integration test on real parts; both verifiers against each other
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
clean: ## Remove what this clone made (caches stay); refused while a stage of it is up
	@$(GUARD) none-up
	@[ ! -d .stage ] || echo "Removing .stage, with $$(find .stage -mindepth 2 -maxdepth 2 -name 'evidence-*' | wc -l) folders of exported evidence"
	@rm -rf .stage
