# The verbs of this repository. `make` alone lists them. The work is done by the scripts that stand here.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PREFIX ?=
DEMO_EXIT ?=
LOGS ?= ../shared/data/crash-logs
export DEMO_EXIT

.PHONY: help setup demo test lint bench titles install deb chaos farm clean

help: ## show this list
	@echo 'make VERB'
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' Makefile | while IFS="|" read -r verb text; do \
		printf '  %-9s %s\n' "$$verb" "$$text"; done

setup: ## install what is missing on this machine (Debian, Ubuntu) for all verbs
	@scripts/setup demo test lint bench && echo 'Everything is there.'

demo: ## the main job on a kernel branch of its own, then the dashboard (DEMO_EXIT=1: end after the report)
	@demo/run

test: ## run all tests
	@scripts/test

lint: ## formatting, clippy, shellcheck, licences
	@scripts/lint

bench: ## print "name value unit" lines and write target/bench.json
	@scripts/bench

titles: ## name the crashes of a folder of logs that say what the name should be (LOGS=DIR)
	@scripts/setup build
	@. scripts/lib.sh && find_cargo && cargo run --quiet -p crash --example titles -- '$(LOGS)'

install: ## install the four commands with cargo, man pages, completions (PREFIX=/usr/local puts them below it)
	@scripts/setup build
	@. scripts/lib.sh && find_cargo && cargo install --locked --path . $(if $(PREFIX),--root '$(PREFIX)')
	@. scripts/lib.sh && find_cargo && cargo run --locked --release --quiet --example manual -- target/manual
	@share='$(or $(PREFIX),$(HOME)/.local)/share' && \
		install -D -m 644 -t "$$share/man/man1" target/manual/man/* && \
		install -D -m 644 -t "$$share/bash-completion/completions" target/manual/bash/* && \
		install -D -m 644 -t "$$share/zsh/site-functions" target/manual/zsh/* && \
		install -D -m 644 -t "$$share/fish/vendor_completions.d" target/manual/fish/*

deb: ## make the Debian package (with cargo-deb), in target/debian/
	@scripts/deb

chaos: ## kill the daemon 100 times under load, 5 times with real virtual machines, and count what was lost
	@scripts/chaos

farm: ## as root: hosts in network namespaces over ssh, their faults, a Slurm cluster; compared with what is known (FARM=run|faults|slurm)
	@scripts/farm $(FARM)

clean: ## remove what was built here (the cache in ~/.cache/ktest stays)
	rm -rf target ktest-out
