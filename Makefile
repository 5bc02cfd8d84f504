# The targets of this repository. `make` lists them. The scripts in scripts/ and demo/ do the work.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PREFIX ?=
DEMO_EXIT ?=
LOGS ?=
export DEMO_EXIT

.PHONY: help setup demo test lint bench titles install deb chaos farm pictures clean

help: ## list the targets
	@echo 'make TARGET'
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' Makefile | while IFS="|" read -r target text; do \
		printf '  %-9s %s\n' "$$target" "$$text"; done

setup: ## install missing packages for all targets (Debian, Ubuntu)
	@scripts/setup demo test lint bench && echo 'Nothing is missing.'

demo: ## test a sample kernel branch, leave the dashboard running (DEMO_EXIT=1: exit after the report)
	@demo/run

test: ## run all tests
	@scripts/test

lint: ## check formatting, clippy, shellcheck, dependencies, licenses
	@scripts/lint

bench: ## run the benchmarks, write target/bench.json
	@scripts/bench

titles: ## compare crash titles with those expected by a directory of logs (LOGS=DIR)
	@[ -n '$(LOGS)' ] || { echo 'titles: no directory of logs given; run: make titles LOGS=DIR' >&2; exit 2; }
	@scripts/setup build
	@. scripts/lib.sh && find_cargo && cargo run --quiet -p crash --example titles -- '$(LOGS)'

install: ## install the commands, man pages and completions (PREFIX=/usr/local [cargo's directory])
	@scripts/setup build
	@scripts/setup run || echo '"ktest run" needs more packages; "ktest doctor" lists them' >&2
	@. scripts/lib.sh && find_cargo && cargo install --locked --path . $(if $(PREFIX),--root '$(PREFIX)')
	@. scripts/lib.sh && find_cargo && cargo run --locked --release --quiet --example manual -- target/manual
	@share='$(or $(PREFIX),$(HOME)/.local)/share' && \
		install -D -m 644 -t "$$share/man/man1" target/manual/man/* && \
		install -D -m 644 -t "$$share/bash-completion/completions" target/manual/bash/* && \
		install -D -m 644 -t "$$share/zsh/site-functions" target/manual/zsh/* && \
		install -D -m 644 -t "$$share/fish/vendor_completions.d" target/manual/fish/*

deb: ## build the Debian package in target/debian/ (needs cargo-deb)
	@scripts/deb

chaos: ## kill the daemon 100 times under load and 5 times with real VMs, count lost verdicts
	@scripts/chaos

farm: ## test a farm over ssh, its faults, and a Slurm cluster; needs root (FARM=run|faults|slurm)
	@scripts/farm $(FARM)

pictures: ## make the pictures of the documentation from the results of the last 'make demo'
	@scripts/pictures

clean: ## remove target/ and ktest-out/ (~/.cache/ktest stays)
	rm -rf target ktest-out
