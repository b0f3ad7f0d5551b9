# `make` lists what there is to make. PYTHON=… chooses the interpreter that .venv is made with.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help up test check bench faults soak load simulate safeties scale format docs screenshots clean

PYTHON ?= python3
BIN := .venv/bin
# what the variables of `make up` mean to `sessionsweep up`
UP = $(if $(DATA_DIR),--data-dir "$(DATA_DIR)") $(if $(PORT_BASE),--port-base "$(PORT_BASE)") $(ARGS)
FAULT_SCHEDULES ?= 1000
SOAK_MINUTES ?= 60
LOAD_MINUTES ?= 10
# three for each core of a small machine: most of the time a test waits for processes that it started
TEST_PROCESSES ?= 6
# Hundreds of processes start in a test run: none compiles again what another has compiled.
test faults scale: export PYTHONDONTWRITEBYTECODE =
# The sizes of `make scale`, as docs/security.md names them: 10,000 requests of 100 clients on two nodes for each framework,
# 200 WebSockets, 100,000 cancelled calls (5,000 requests over HTTP that their clients leave), 10,000 races for a volume's files.
SCALE = ASGI_CLIENTS=100 ASGI_ROUNDS=100 FLASK_CLIENTS=100 FLASK_ROUNDS=100 DJANGO_CLIENTS=100 DJANGO_ROUNDS=100 \
	ASGI_SOCKETS=200 LINK_CANCELLED=100000 ASGI_LEAVING=5000 SESSIONSWEEP_RACES=10000
SCALED = tests/integrations/test_asgi_servers.py tests/integrations/test_asgi_streams.py tests/integrations/test_flask_nodes.py \
	tests/integrations/test_django_project.py tests/store/test_store_link.py tests/volumes/test_volume_races.py

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The stamp's age says whether pyproject.toml changed; .ci/venv also looks whether the checkout was moved.
.venv/.stamp: pyproject.toml .ci/venv
	@command -v "$(PYTHON)" >/dev/null || { echo "make: no $(PYTHON) here; install Python 3.11 or newer" >&2; exit 1; }
	@"$(PYTHON)" .ci/venv
	@touch $@

up: .venv/.stamp ## run it all on this machine (DATA_DIR=folder PORT_BASE=port ARGS=…); Ctrl-C stops it
	@exec $(BIN)/sessionsweep up $(UP)

test: .venv/.stamp ## run the tests (ARGS='-k name' …)
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder $(ARGS)

check: .venv/.stamp ## lint, format, types, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.stamp ## measure (ARGS=P1 …)
	$(BIN)/python -m benchmarks $(ARGS)

faults: .venv/.stamp ## the long fault-injection run (SCHEDULES=1000 RUN=2; SEED=1-17 repeats one; ARGS=…)
	FAULT_SCHEDULES=$(or $(SCHEDULES),$(FAULT_SCHEDULES)) $(if $(SEED),FAULT_SEED="$(SEED)") $(if $(RUN),FAULT_RUN="$(RUN)") \
	$(BIN)/python -m pytest -m faults --timeout 0 $(ARGS) tests/faults tests/e2e/test_faults_visible.py

soak: .venv/.stamp ## traffic and seeded faults on a whole deployment; what grows, is lost, stays down (SOAK_MINUTES=60 SEED=…)
	$(BIN)/python -m benchmarks.load soak --minutes $(SOAK_MINUTES) $(if $(SEED),--seed $(SEED)) $(ARGS)

load: .venv/.stamp ## the highest rate two nodes hold, latencies, with kills, beside Flask-Session (LOAD_MINUTES=10 SEED=…)
	$(BIN)/python -m benchmarks.load load --minutes $(LOAD_MINUTES) $(if $(SEED),--seed $(SEED)) $(ARGS)

simulate: .venv/.stamp ## many schedules in one process on a simulated clock (SCHEDULES=100000 RUN=1 SEED=1-17)
	$(BIN)/python tests/simulation/simulate.py

safeties: .venv/.stamp ## take each safety out of a copy, and see its tests fail (ONLY=lease)
	$(BIN)/python tests/safeties/takeout.py

scale: .venv/.stamp ## many clients, sockets and cancelled calls: the same tests at the sizes of docs/security.md
	$(SCALE) $(BIN)/python -m pytest --timeout 0 --durations 0 $(ARGS) $(SCALED)

format: .venv/.stamp ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/.stamp ## write the generated pages of docs/ again
	$(BIN)/python docs/generate.py

screenshots: .venv/.stamp ## take docs/images/admin/ again: every page of the dashboard, in chromium
	$(BIN)/python docs/screenshots.py

clean: ## remove what was made here: .venv, caches, builds
	rm -rf .venv .venv.lock build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
