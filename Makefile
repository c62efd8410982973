# Two commands matter: `make demo` and `make test`. Each does all its set-up with Python 3.11 or newer and make.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
# Without an anvil and without npm, Node's npm comes as a wheel, and brings anvil.
EXTRAS := --extra postgres --extra grpc $(shell command -v anvil >/dev/null || command -v npm >/dev/null || echo --extra devnet)
# More than there are cores: of their time, the tests compute a third and wait for blocks, pauses and processes.
WORKERS ?= 5
# For what only computes.
CORES ?= $(shell nproc)

.PHONY: help setup demo test lint types layers units bench docs check-docs clean

help:
	@echo "make demo   the whole loop on a local devnet, ending with a proof"
	@echo "make test   everything that must hold: style, types, layers, tests"
	@echo "make bench  all benchmarks, beside the naive script and the peers (docs/dev/benchmarks.md)"
	@echo "make bench-quick  the working tree beside the last commit (AGAINST=... for another), in three minutes"
	@echo "make torture     kills, reorgs and faults against the real daemon, judged by an oracle (docs/dev/torture.md)"
	@echo "make chaos       replicas on one PostgreSQL that restarts, loses commits' replies and replicas (docs/dev/chaos.md)"
	@echo "make killpoints  SIGKILL and disk errors at every write, sync and send of a short run"
	@echo "make planted     bugs planted on purpose, and which suite catches each"
	@echo "make test-long   the tests that make test leaves out, as each takes a minute and more"
	@echo "make fuzz        the decoders of outside bytes, 20,000 hostile cases each (CASES=...)"
	@echo "make docs   write the generated pages again"
	@echo "make requirements   export requirements.txt, with hashes, from the lock"
	@echo "make sbom   write a CycloneDX bill of materials to dist/sbom.json"

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml uv.lock
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	UV_PROJECT_ENVIRONMENT=$(VENV) $(BIN)/uv sync --quiet --locked --inexact --compile-bytecode $(EXTRAS)
	@touch $@

demo: setup
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m compileall -q watcher migrations
	@$(BIN)/watcher demo

# The types are checked while the tests wait.
test: lint layers
	@$(MAKE) --no-print-directory -j 2 types units

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

layers: setup
	$(BIN)/lint-imports --no-cache

# For the tests of the dashboard in a browser, which are skipped without one.
.PHONY: browser
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium >/dev/null; } || \
	echo "there is no Chromium: the tests in a browser are skipped"

units: setup browser
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m compileall -q watcher migrations
	@# The order of tests/conftest.py: what takes longest begins first, so that no worker waits for another at the end.
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder tests examples --ignore=examples/first_hook

.PHONY: test-long
test-long: setup
	$(BIN)/python -m pytest -n $(CORES) --timeout 0 -m long tests

.PHONY: fuzz
CASES ?= 20000
fuzz: setup
	WATCHER_FUZZ_CASES=$(CASES) $(BIN)/python -m pytest -n $(CORES) --timeout 0 -m fuzz tests

bench: setup
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m compileall -q watcher migrations bench
	$(BIN)/python -m bench $(ARGS)

.PHONY: bench-quick bench-publish
AGAINST ?= last
bench-quick: setup
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m compileall -q watcher migrations bench
	$(BIN)/python -m bench --quick --against $(AGAINST) $(ARGS)

bench-publish: setup
	$(BIN)/python -m bench --publish

.PHONY: torture
torture: setup
	$(BIN)/python -m tests.torture $(ARGS)

.PHONY: chaos
chaos: setup
	$(BIN)/python -m tests.chaos $(ARGS)

docs: setup
	$(BIN)/python -m docs.generate.pages

.PHONY: picture
picture: setup
	$(BIN)/python -m docs.generate.demo_picture

.PHONY: requirements sbom
# One export for `pip install --require-hashes`; a test compares it with the lock.
requirements: setup
	$(BIN)/uv export --quiet --frozen --no-dev --no-emit-project --no-header --extra postgres -o requirements.txt

sbom: setup
	mkdir -p dist
	$(BIN)/uv export --quiet --frozen --no-dev --extra postgres --preview-features sbom-export --format cyclonedx1.5 -o dist/sbom.json

clean:
	rm -rf $(VENV) .bench .mypy_cache .ruff_cache .hypothesis .pytest_cache
	@git worktree prune 2>/dev/null || true  # revisions of make bench-quick

.PHONY: planted
planted: setup
	$(BIN)/python -m tests.planted --workers $(CORES)

.PHONY: killpoints
killpoints: setup
	$(BIN)/python -m tests.killpoints --workers $(CORES) $(ARGS)
