# Daily verbs. Each one does its own set-up: `make test` and `make demo` work on a fresh machine with
# Python 3.11+ and nothing else.
SHELL := /bin/bash
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PROTOS := $(wildcard proto/kepler/v1/*.proto)

.DEFAULT_GOAL := help
.PHONY: help setup demo fmt lint types test test-full proto proto-check app docs bench requirements clean

help: ## What can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

setup: $(VENV)/.ready ## Make .venv with pinned, hash-checked requirements

$(VENV)/.ready: requirements/dev.txt requirements/bootstrap.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Kepler needs Python 3.11 or newer. Install it (Debian: apt-get install python3.11 python3.11-venv) and run make again."; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo "This Python cannot make environments. On Debian: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements/dev.txt requirements/bootstrap.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@# uv leaves the packages uncompiled, and where bytecode may not be written each start would compile them again.
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -c "import kepler.service, kepler.adapters.cli.serve, onnxruntime"
	@touch $@

proto: setup ## Generate the protobuf code from proto/
	$(BIN)/python tools/make_proto.py

proto-check: setup ## Fail when the generated code is not what proto/ gives
	$(BIN)/python tools/make_proto.py --check

fmt: setup ## Format
	$(BIN)/ruff format . && $(BIN)/ruff check --fix-only .

lint: setup ## Style and import contracts
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && PYTHONPATH=edge_agent $(BIN)/lint-imports

types: setup ## Static types
	$(BIN)/pyright

requirements: setup ## Compile the pinned requirements anew
	$(BIN)/python tools/compile_requirements.py

app: setup ## Build the Splunk app: build/app/kepler and dist/kepler-<version>.tar.gz
	$(BIN)/python tools/build_app.py

demo: app ## Train, predict, score and look, as a Splunk user sees it (under a minute after set-up)
	$(BIN)/python tools/demo.py

test: setup ## The suite CI runs, with coverage floors (under 25 minutes on two cores)
	$(BIN)/python tools/run_tests.py

test-full: setup ## Every count, in parts; goes on where it was stopped (PART=kills runs that part alone)
	$(BIN)/python tools/run_tests.py --full $(addprefix --part ,$(PART))

docs: setup ## Generate the reference pages and check every link between pages
	$(BIN)/python tools/make_algorithm_docs.py
	$(BIN)/python tools/make_cli_docs.py
	$(BIN)/python tools/make_settings_docs.py
	$(BIN)/python tools/make_error_docs.py
	$(BIN)/python tools/check_links.py

bench: app ## Measure against what users have today; prints ratios of one run
	$(BIN)/python -m benchmarks.load.run

clean: ## Remove what was built, keep .venv
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis .coverage*
