# Holdfast needs Python 3.11 or newer and nothing else: `make run` shows it, `make test` proves it.
# Everything is made inside this folder (.venv) from hashed locks, and made again only when they change.

.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
PG15 ?= /usr/lib/postgresql/15/bin

# The stamp's name says what it was made from, and where: a new lock or a moved folder is a new name.
key = $(shell cat requirements/$(1).txt pyproject.toml | cksum | tr ' ' -)-$(shell pwd | cksum | cut -d' ' -f1)
RUN := $(VENV)/ready-run-$(call key,run)
DEV := $(VENV)/ready-dev-$(call key,dev)

.PHONY: help setup run test lint bench peers chaos pg15 lock docs clean

help:  ## list the targets
	@sed -n 's/^\([a-z0-9]*\):.*## /\1\t/p' Makefile | expand -t 12

setup: $(DEV)  ## make .venv with everything that work on Holdfast needs

run: $(RUN)  ## the main job: database, server, worker and sample stories, live (ARGS=… are handed on)
	@$(BIN)/holdfast demo $(ARGS)

test: lint  ## the linters, then every test (ARGS=… are handed to pytest)
	@$(BIN)/python -m pytest -n 2 $(ARGS)

lint: $(DEV)  ## ruff, mypy and import-linter
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo

bench: $(DEV)  ## the figures of the docs, on this machine
	@$(BIN)/holdfast bench $(ARGS)

# Nothing of Holdfast needs them: a Python of their own, and node_modules where there is Node.js.
peers: $(DEV)  ## Holdfast beside other queues on this machine (ARGS=--rounds 3 …)
	@test -x .peers/bin/python || $(BIN)/python -m venv .peers
	@.peers/bin/python -m pip install -qq --disable-pip-version-check --require-hashes \
	  -r bench/peers/requirements.txt
	@! command -v npm >/dev/null || npm ci --silent --prefix bench/peers \
	  || echo "npm could not install the queues of Node.js" >&2
	@$(BIN)/python bench/peers/run.py $(ARGS)

chaos: $(DEV)  ## kill, stop and starve real processes, then verify (minutes)
	@HOLDFAST_TEST_CHAOS_SECONDS=120 $(BIN)/python -m pytest tests/chaos -s $(ARGS)

pg15: $(DEV)  ## the suite on an installed PostgreSQL 15 instead of the embedded 18 (PG15=its programs)
	@test -x "$(PG15)/postgres" || { echo "No PostgreSQL 15 in $(PG15): install it (on Debian:" \
	  "apt install postgresql-15), or say where it is: make pg15 PG15=/path/to/bin" >&2; exit 1; }
	@HOLDFAST_TEST_POSTGRES="$(PG15)" $(BIN)/python -m pytest $(ARGS)

docs: $(DEV)  ## write the generated pages again
	@$(BIN)/python -m holdfast.config > docs/settings.md

lock: $(DEV)  ## choose versions again (UPGRADE=--upgrade for the newest)
	@$(BIN)/uv pip compile pyproject.toml $(LOCK) --group build -o requirements/run.txt
	@$(BIN)/uv pip compile pyproject.toml $(LOCK) --group dev --all-extras \
	  -c requirements/run.txt -o requirements/dev.txt
	@$(BIN)/uv pip compile bench/peers/requirements.in $(LOCK) -o bench/peers/requirements.txt
LOCK = --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
  --no-emit-index-url --no-emit-find-links $(UPGRADE)

clean:  ## remove what was made here
	rm -rf $(VENV) .peers bench/peers/node_modules .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(DEV): INSTALL := dev
$(RUN): INSTALL := run
$(DEV) $(RUN):
	@found=; for p in $(PYTHON) python3 python3.13 python3.12 python3.11 python3.14; do \
	  "$$p" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	    && { found=$$p; break; }; done; \
	[ -n "$$found" ] || { echo "Holdfast needs Python 3.11 or newer with its venv module" \
	  "(on Debian: apt install python3 python3-venv)." >&2; exit 1; }; \
	"$(BIN)/python" -c 'import pip' 2>/dev/null || { rm -rf "$(VENV)"; "$$found" -m venv "$(VENV)"; }
	@echo "Installing $$(grep -c == requirements/$(INSTALL).txt) locked packages into $(VENV)," \
	  "a minute or two the first time …"
	@"$(BIN)/python" -m pip install -qq --disable-pip-version-check --require-hashes \
	  -r requirements/$(INSTALL).txt
	@"$(BIN)/python" -m pip install -qq --disable-pip-version-check --no-deps \
	  --no-build-isolation --editable .
	@rm -f $(VENV)/ready-$(INSTALL)-*; touch $@
