# Thin on purpose: the logic is in the command line and in scripts/.
.DEFAULT_GOAL := help
.PHONY: help setup build demo test chaos bench fmt lint

DURATION ?= 20s
KILLS ?= 200

# The pinned Rust may be installed under another name; see the script. Nothing is exported where it is there.
TOOLCHAIN := $(shell scripts/toolchain)
ifneq ($(TOOLCHAIN),)
export RUSTUP_TOOLCHAIN := $(TOOLCHAIN)
endif

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: ## Make sure that plugins can be built
	@scripts/setup

build: setup ## Build the host and the plugins it carries
	cargo build --workspace

demo: setup ## Collect this machine's metrics for DURATION (20s), replace a plugin meanwhile, and account for every record
	@DURATION=$(DURATION) scripts/demo

test: setup ## Run every test
	cargo test --workspace

chaos: setup ## Kill the host KILLS (200) times under load, and count what was lost or doubled
	@KILLS=$(KILLS) scripts/chaos

bench: setup ## Measure this machine: plugins beside native Rust, whole pipelines, starts
	@scripts/bench

fmt: ## Format the sources
	cargo fmt --all

lint: setup ## Check formatting, clippy and the rules for dependencies
	@scripts/lint
