# `make` lists what there is to make. PYTHON=… chooses the interpreter that .venv is made with.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help up test check bench faults format docs clean

PYTHON ?= python3
BIN := .venv/bin
# what the variables of `make up` mean to `sessionsweep up`
UP = $(if $(DATA_DIR),--data-dir "$(DATA_DIR)") $(if $(PORT_BASE),--port-base "$(PORT_BASE)") $(ARGS)
FAULT_SCHEDULES ?= 1000

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The stamp's age says whether pyproject.toml changed; .ci/venv also looks whether the checkout was moved.
.venv/.stamp: pyproject.toml .ci/venv
	@command -v "$(PYTHON)" >/dev/null || { echo "make: no $(PYTHON) here; install Python 3.11 or newer" >&2; exit 1; }
	@"$(PYTHON)" .ci/venv
	@touch $@

up: .venv/.stamp ## run it all on this machine (DATA_DIR=folder PORT_BASE=port ARGS=…); Ctrl-C stops it
	@exec $(BIN)/sessionsweep up $(UP)

test: .venv/.stamp ## run the tests (ARGS='-k name' …)
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

check: .venv/.stamp ## lint, format, types, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.stamp ## measure (ARGS=P1 …)
	$(BIN)/python -m benchmarks $(ARGS)

faults: .venv/.stamp ## the long fault-injection run (FAULT_SCHEDULES=1000)
	FAULT_SCHEDULES=$(FAULT_SCHEDULES) $(BIN)/python -m pytest -m faults --timeout 0 $(ARGS) tests/faults

format: .venv/.stamp ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/.stamp ## write the generated pages of docs/ again
	$(BIN)/python docs/generate.py

clean: ## remove what was made here: .venv, caches, builds
	rm -rf .venv .venv.lock build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
