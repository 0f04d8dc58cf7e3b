# One command a need; `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check
DATA ?= data
PORT ?= 8080

.PHONY: help run test check bench bench-peers eval drill protos setup clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /|/' | awk -F'|' '{printf "  make %-11s %s\n", $$1, $$2}'
	@echo "  variables: DATA=folder (data), PORT=page's port (8080), PYTHON=interpreter (python3, 3.11 or newer)"

.venv/made: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Feedmesh needs Python 3.11 or newer; say which with make PYTHON=…")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing pinned packages into .venv …"
	@$(PIP) -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation -e . 2>/dev/null
	@touch $@

.venv/made-dev: .venv/made requirements-dev.lock
	@echo "installing what tests and checks need …"
	@$(PIP) -r requirements-dev.lock
	@touch $@

protos/.made: .venv/made $(wildcard protos/*.proto) services/protogen.py
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m services.protogen
	@touch $@

setup: .venv/made protos/.made ## virtual environment, pinned packages, generated wire code

protos: protos/.made ## generate the wire code again where a .proto has changed

run: setup ## set up, make a demo world the first time, run the whole mesh, open its page on PORT
	@$(BIN)/feedmesh up --data "$(DATA)" --port $(PORT) --demo

test: setup .venv/made-dev ## set up and run every test, on two cores
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder

check: setup .venv/made-dev ## lint, format, types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: setup .venv/made-dev ## every benchmark, one table, a JSON file for each part (ONLY=part for one)
	@$(BIN)/python -m bench $(ONLY)

bench-peers: setup ## what the benchmarks compare with, each into an environment of its own under .peers
	@$(BIN)/python -m bench.peers.install

eval: setup ## quality on real data beside baselines, one table and a chart (ONLY=part for one)
	@$(BIN)/python -m evaluation $(ONLY)

drill: setup .venv/made-dev ## kill -9 every stateful service in turn under load, 30 rounds, and recount the log
	@$(BIN)/python -m tests.drill --rounds 30

clean: ## remove what was made, not the data
	rm -rf .venv .kernels protos/.made protos/*_pb2*.py protos/*_pb2*.pyi .mypy_cache .ruff_cache .pytest_cache
