# The commands of the repository; `make help` lists them. Each sets up what it needs.
.DEFAULT_GOAL := help
.PHONY: help setup setup-tests setup-cluster run test unit integration lint format bench images cluster demo-cluster cluster-down e2e e2e-short chaos lock clean

BIN := .venv/bin
FEED ?= examples/majors.yaml

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Prepare .venv with everything, Java and Kafka's jars
	@scripts/setup.sh

setup-tests:
	@scripts/setup.sh --tests

run: setup ## Run a feed on this machine: make run FEED=examples/majors.yaml
	$(BIN)/fulltape run $(FEED)

test: lint unit integration ## Check and test everything but what runs on a cluster of its own: make e2e

unit: setup ## Test what needs no server: quick
	$(BIN)/pytest --numprocesses=auto tests/unit

integration: setup-tests ## Test with real servers, which it starts (minutes)
	$(BIN)/pytest --numprocesses=2 --dist=loadfile --durations=15 tests/integration

lint: setup ## Check style, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## Format the code and mend what ruff can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: setup ## Measure the tape against its peer, and the way of a trade to the browser (minutes)
	$(BIN)/fulltape bench tape
	$(BIN)/fulltape bench live

images: setup ## Build the images of operator, services and Spark, and write what they are made of to dist/images
	$(BIN)/python -m images.build

cluster: setup ## Start a Kubernetes of one node on this machine, built from source (Linux, root)
	@scripts/setup.sh --cluster
	@$(BIN)/python -m tests.cluster up

demo-cluster: cluster ## Fill it: Kafka, a sandbox exchange, Alertmanager, Prometheus, Fulltape by Helm, and a feed
	$(BIN)/python -m tests.cluster demo

cluster-down: setup ## Stop it and delete all that it made
	$(BIN)/python -m tests.cluster down

setup-cluster: setup-tests
	@scripts/setup.sh --cluster

e2e: setup-cluster ## Test everything on a cluster of the tests' own, or on the one of FULLTAPE_TEST_KUBECONFIG
	$(BIN)/pytest --log-cli-level=INFO --durations=15 tests/e2e

e2e-short: setup-cluster ## The same without what takes long: what continuous integration runs
	$(BIN)/pytest --log-cli-level=INFO --durations=15 -m "not long" tests/e2e

chaos: setup-cluster ## The faults of the end-to-end tests, more often and longer
	FULLTAPE_CHAOS=full $(BIN)/pytest --log-cli-level=INFO tests/e2e/test_chaos.py

lock: setup ## Resolve the dependencies of pyproject.toml anew into requirements.lock
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --all-extras \
	  --no-annotate --no-header --quiet pyproject.toml -o requirements.lock

clean: ## Delete .venv and all caches of tools in this folder
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
