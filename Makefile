# One command a need; `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check
DATA ?= data
PORT ?= 8080

.PHONY: help run test test-rounds test-image test-kubernetes fuzz check lock bench bench-peers eval drill drill-cluster drill-power kafka protos manifests setup clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /|/' | awk -F'|' '{printf "  make %-15s %s\n", $$1, $$2}'
	@echo "  variables: DATA=folder (data), PORT=page's port (8080), PYTHON=interpreter (python3, 3.11 or newer)"

RUN_LOCKS = requirements.lock requirements-training.lock requirements-build.lock

.venv/made: $(RUN_LOCKS) pyproject.toml setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Feedmesh needs Python 3.11 or newer; say which with make PYTHON=…")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing pinned packages into .venv …"
	@$(PIP) $(addprefix -r ,$(RUN_LOCKS))
	@$(PIP) --no-deps --no-build-isolation -e . 2>/dev/null
	@$(BIN)/python -m services.ops.openmp
	@touch $@

.venv/made-dev: .venv/made requirements-cluster.lock requirements-dev.lock
	@echo "installing what tests and checks need …"
	@$(PIP) $(addprefix -r ,$(RUN_LOCKS)) -r requirements-cluster.lock -r requirements-dev.lock
	@touch $@

protos/.made: .venv/made $(wildcard protos/*.proto) setup.py
	@$(BIN)/python setup.py --quiet build_wire --inplace
	@touch $@

setup: .venv/made protos/.made ## virtual environment, pinned packages, generated wire code

protos: protos/.made ## generate the wire code again where a .proto has changed

run: setup ## set up, make a demo world the first time, run the whole mesh, open its page on PORT
	@$(BIN)/feedmesh up --data "$(DATA)" --port $(PORT) --demo

tests/web/client/node_modules/.made: tests/web/client/package-lock.json
	@if command -v npm >/dev/null; then npm ci --silent --no-audit --no-fund --prefix tests/web/client && touch $@; \
	else echo "NOT TESTED: the generated TypeScript client, as there is no npm here; install Node.js with npm"; fi

.kafka/.made: tests/kafka/pom.xml
	@mkdir -p .kafka
	@if command -v mvn >/dev/null && command -v java >/dev/null; then \
	echo "fetching Kafka's jars into .kafka …" && rm -rf .kafka/libs .kafka/formatted && \
	mvn -q -B -f tests/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/.kafka/libs -DincludeScope=runtime && touch $@; \
	else echo "NOT TESTED: the log on Kafka, as there is no Java or Maven here: apt-get install openjdk-17-jre-headless maven"; fi

kafka: .kafka/.made ## the jars of a Kafka broker for tests, into .kafka

test: setup .venv/made-dev tests/web/client/node_modules/.made .kafka/.made ## set up and run every test, on two cores (TESTS=some)
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadscope --no-loadscope-reorder $(TESTS)

test-rounds: setup .venv/made-dev .kafka/.made ## every round of the drills of which `make test` has a few
	@FEEDMESH_EVERY_ROUND=1 $(BIN)/python -m pytest tests/mesh tests/upgrade tests/damage/test_damage_matrix.py

test-image: setup .venv/made-dev ## the steps of the container image, all kernels compiled
	@FEEDMESH_TEST_IMAGE=1 $(BIN)/python -m pytest tests/installed/test_image.py

test-kubernetes: setup .venv/made-dev ## the overlays on a real kube-apiserver with its controllers, which is built once
	@tests/kubernetes/server/build
	@$(BIN)/python -m pytest tests/kubernetes

fuzz: setup .venv/made-dev ## new random examples for every property test (TESTS=some)
	@$(BIN)/python -m pytest --numprocesses 2 --hypothesis-profile fuzz -m hypothesis $(TESTS)

check: setup .venv/made-dev ## lint, format, types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

COMPILE = .lock/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-header --no-annotate \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links

# $(call besides,FILE,WHAT,EARLIER FILES): leave in a lock file what the earlier ones do not pin, under a line that says what it is.
besides = @awk -v own=$(1) 'BEGIN { print "\# Pinned: $(2)." } FILENAME != own { held[$$1]; next } /^(\#|$$)/ { next } \
	/^[^ ]/ { drop = ($$1 in held) } !drop' $(3) $(1) > .lock/draft && mv .lock/draft $(1)

lock: ## pin packages again, with hashes and without addresses, after a change to pyproject.toml
	@$(PYTHON) -m venv .lock && .lock/bin/python -m pip install --quiet pip-tools
	@$(COMPILE) --output-file requirements.lock pyproject.toml
	$(call besides,requirements.lock,what the mesh runs on,)
	@$(COMPILE) --extra training --constraint requirements.lock --output-file requirements-training.lock pyproject.toml
	$(call besides,requirements-training.lock,what training needs besides,requirements.lock)
	@$(COMPILE) --build-deps-for wheel --only-build-deps --constraint requirements.lock --output-file requirements-build.lock pyproject.toml
	$(call besides,requirements-build.lock,what a build of the wheel needs besides,requirements.lock)
	@$(COMPILE) --extra cluster $(addprefix --constraint ,$(RUN_LOCKS)) --output-file requirements-cluster.lock pyproject.toml
	$(call besides,requirements-cluster.lock,what a mesh on several machines needs besides,$(RUN_LOCKS))
	@$(COMPILE) --extra dev $(addprefix --constraint ,$(RUN_LOCKS) requirements-cluster.lock) --output-file requirements-dev.lock pyproject.toml
	$(call besides,requirements-dev.lock,what tests and checks need besides,$(RUN_LOCKS) requirements-cluster.lock)

bench: setup .venv/made-dev ## every benchmark, one table, a JSON file for each part (ONLY=part for one)
	@$(BIN)/python -m bench $(ONLY)

bench-peers: setup ## what the benchmarks compare with, each into an environment of its own under .peers
	@$(BIN)/python -m bench.peers.install

eval: setup ## quality on real data beside baselines, one table and a chart (ONLY=part for one)
	@$(BIN)/python -m learning.evaluation $(ONLY)

drill: setup .venv/made-dev ## kill -9 every stateful service in turn under load, 30 rounds, and recount the log
	@$(BIN)/python -m tests.drill --rounds 30

drill-cluster: setup .venv/made-dev .kafka/.made ## three hosts in namespaces with three brokers, every fault once, 10 at random, a recount (root; FAULTS="--rounds 0")
	@$(BIN)/python -m tests.drill.cluster --save $(FAULTS)

drill-power: setup .venv/made-dev ## 200 cuts of the power under the embedded log and under a view (root, fuse3; CUTS="--cuts 20")
	@$(BIN)/python -m tests.drill.power $(CUTS)

manifests: setup .venv/made-dev ## make the base and the overlays of deploy/kubernetes again
	@$(BIN)/python -m deploy.generate

clean: ## remove what was made, not the data
	rm -rf .venv .lock .kafka build dist *.egg-info .bare .kernels .released tests/web/client/node_modules protos/.made protos/*_pb2*.py protos/*_pb2*.pyi .mypy_cache .ruff_cache .pytest_cache
