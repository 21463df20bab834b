# Every verb sets up what it needs first; the set-up runs again only when pyproject.toml or requirements/ change.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV ?= .venv
# Options for installing torch alone, for example "--index-url URL" of an index with CPU-only or CUDA builds.
TORCH_OPTIONS ?=
# Processes that test or measure. Two cores and single-threaded torch suit two; the whole suite waits a good part of its
# time for servers, limits and other processes, and a third one computes meanwhile.
WORKERS ?= 2
TESTERS ?= $(shell echo $$(( $(WORKERS) * 3 / 2 )))
# Folders whose tests take seconds: no training to an end, no servers, no sandboxes.
FAST := agents chat contracts core credit data evaluate objectives online rewards speed studies tools view worlds
# The peers' environments take gigabytes: named tests are run without them, unless they are in the folders that need them.
PEERS = $(if $(and $(findstring tests/,$(ARGS)),$(if $(findstring tests/serve,$(ARGS))$(findstring tests/integration,$(ARGS)),,alone)),,peers)
# Further arguments for pytest or the demo: make test ARGS="tests/tools -x"
ARGS ?=

BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Twice quiet: errors only. Warnings would name the package index that this machine is set up with.
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check

TESTS := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/python -m pytest -q -n $(TESTERS) --dist worksteal

.PHONY: help setup system peers demo check test fmt lint types docs serve-docs bench claims goldens pins clean

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## create .venv with the tested versions and the package in it

$(READY): pyproject.toml $(wildcard requirements/*.txt)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Ferrule needs Python 3.11 or newer; name one with PYTHON=..., for example: make setup PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "$(PYTHON) cannot create a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "setting up $(VENV) (a few minutes the first time)"
	@$(PIP) $(TORCH_OPTIONS) "$$(grep '^torch==' requirements/tested.txt)"
	@$(PIP) --requirement requirements/tested.txt
	@$(PIP) --no-deps --requirement requirements/nodeps.txt
	@$(PIP) --no-deps --editable .
	@# The engine's kernels are compiled at their first use, half a minute in each process that begins before one is done.
	@$(BIN)/ferrule run "Compute 1 + 1." --max-completion-length 8 >/dev/null 2>&1 || true
	@touch $@

system: ## install the system packages that the full test suite uses (Debian and Ubuntu, as root)
	@bash scripts/system.sh

peers: setup ## make the environments of other projects' clients and servers that the tests talk to
	@PYTHON=$(BIN)/python TORCH_OPTIONS="$(TORCH_OPTIONS)" bash scripts/peers.sh

demo: setup ## train the pocket model on your CPU and show success before and after
	$(BIN)/ferrule demo $(ARGS)

check: lint types ## lint, types and the fast tests: under three minutes on two cores
	$(TESTS) -m "not slow and not integration" $(FAST:%=tests/%) tests/test_layers.py $(ARGS)

test: setup system $(PEERS) ## run all tests, or those of ARGS
	$(TESTS) $(ARGS)

fmt: setup ## format the code and apply safe fixes
	$(BIN)/ruff check --fix --exit-zero --quiet .
	$(BIN)/ruff format .

lint: setup ## check style, formatting and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: setup ## check types (mypy, strict)
	$(BIN)/mypy

docs: setup ## check the generated pages and build the site into site/
	$(BIN)/python scripts/papers_table.py --check
	$(BIN)/python scripts/planning_table.py --check
	$(BIN)/python scripts/arena_page.py --check
	$(BIN)/python scripts/taught_page.py --check
	$(BIN)/python scripts/evidence.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

serve-docs: setup ## serve the site while you write
	$(BIN)/python scripts/papers_table.py
	$(BIN)/python scripts/planning_table.py
	$(BIN)/python scripts/arena_page.py
	$(BIN)/python scripts/taught_page.py
	$(BIN)/python scripts/evidence.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

bench: setup ## run every benchmark; results go to benchmarks/results/
	@mkdir -p benchmarks/results
	@for script in $(wildcard benchmarks/*.py); do \
		echo "$$script"; $(BIN)/python $$script --json benchmarks/results/$$(basename $$script .py).json; done

claims: setup ## measure what is missing of all claims (minutes each); results go to claims/
	@$(BIN)/ferrule papers claim --all --jobs $(WORKERS)
	$(BIN)/python scripts/papers_table.py
	$(BIN)/python scripts/evidence.py

goldens: setup ## store the numbers of every arm at its tiny size again, after a change that is meant
	@$(BIN)/python scripts/goldens.py

pins: ## write requirements/ from the environment as it is now
	$(BIN)/python scripts/pin.py

clean: ## remove caches and built pages (keeps .venv, runs/ and models/)
	rm -rf site build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
