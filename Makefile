# Everything that one does with a clone. `make` alone lists it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PEER := .venv-peer
AZURITE := 3.35.0
AZURITE_INSTALLED := .azurite/installed-$(AZURITE)
PIP_INSTALL := -m pip install -q --disable-pip-version-check -c constraints.txt

# Tests of what hubclient's core does alone. They need no daemon, no TensorFlow and nothing that hubd depends on,
# and they also run on these later versions of CPython.
CLIENT_PYTHONS := 3.12 3.13
CLIENT_TESTS = $(wildcard $(addprefix tests/unit/test_, \
    client_*.py errors.py handles.py layout.py lease.py lock_file.py places.py \
    prefetch_file.py quantities.py saved_model.py))

# What one waits for before each commit: no daemon is started, TensorFlow is not imported.
FAST_TESTS := tests/unit tests/hostile tests/test_architecture.py

# Two workers; a worker that runs dry takes over what another has not begun. Tests of one file mostly stay together.
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

WITH_PEER = HUBD_TEST_PEER_PYTHON=$(CURDIR)/$(PEER)/bin/python

.DEFAULT_GOAL := help
.PHONY: help install peer azurite demo test test-all test-fast test-client test-browser test-system check lint types format soak load bench \
    clean

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS='	' read -r target text; \
	    do printf '  make %-12s %s\n' "$$target" "$$text"; done

install: $(INSTALLED) ## make .venv with hubd, hubctl and the developers' tools

# The client comes first: pip before 23.3 looks for it on the index when another needs it and it is named later.
$(INSTALLED): pyproject.toml client/pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "hubd needs Python 3.11 or newer, and '$(PYTHON)' is not; name one: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP_INSTALL) -e './client[cli,tensorflow]' -e '.[dev]'
	@touch $@

peer: $(PEER)/.installed ## make .venv-peer with tensorflow_hub, which tests and benchmarks compare with

$(PEER)/.installed: benchmarks/peer-requirements.txt constraints.txt
	$(PYTHON) -m venv $(PEER)
	$(PEER)/bin/python $(PIP_INSTALL) -r benchmarks/peer-requirements.txt
	@touch $@

azurite: $(AZURITE_INSTALLED) ## install Azurite into .azurite, which tests of object stores run (with npm)

$(AZURITE_INSTALLED):
	@if command -v npm >/dev/null; then \
	    set -ex; \
	    npm install --prefix .azurite --no-save --no-package-lock --no-audit --no-fund --silent azurite@$(AZURITE); \
	    touch $@; \
	elif test "$$CI" = true; then \
	    echo "npm is missing: Azure's object stores must be tested" >&2; exit 1; \
	else \
	    echo "SKIPPED: no npm on this machine, so object stores of Azure are not tested" >&2; \
	fi

demo: $(INSTALLED) ## watch a module go from its publisher to a prediction (half a minute; ARGS=--stay shows its page)
	@$(BIN)/python demo/demo.py $(ARGS)

test: $(INSTALLED) $(PEER)/.installed $(AZURITE_INSTALLED) ## run the tests, TensorFlow's included (about twelve minutes)
	$(WITH_PEER) $(PYTEST) -m 'not thorough'

test-all: $(INSTALLED) $(PEER)/.installed $(AZURITE_INSTALLED) test-client ## run further cases too, and the client's tests on other Pythons
	$(WITH_PEER) $(PYTEST)

test-fast: $(INSTALLED) ## run the tests that need neither a daemon nor TensorFlow nor patience
	$(PYTEST) -m 'not slow and not thorough and not tensorflow' $(FAST_TESTS)

test-client: $(CLIENT_PYTHONS:%=test-client-%) ## run the client's core tests on later versions of CPython

test-client-%: client/pyproject.toml constraints.txt
	@if python=$$(.ci/find-python $*); then \
	    set -ex; \
	    test .venv-$*/.installed -nt constraints.txt -a .venv-$*/.installed -nt client/pyproject.toml || { \
	        "$$python" -m venv .venv-$*; \
	        .venv-$*/bin/python $(PIP_INSTALL) -e ./client pytest pytest-asyncio pytest-timeout hypothesis; \
	        touch .venv-$*/.installed; }; \
	    .venv-$*/bin/python -m pytest $(CLIENT_TESTS); \
	elif test "$$CI" = true; then \
	    echo "CPython $* is missing: the client's tests must run on it too" >&2; exit 1; \
	else \
	    echo "SKIPPED: no CPython $* on this machine, so the client was not tested on it" >&2; \
	fi

test-browser: $(INSTALLED) ## look at the pages with Chromium, which the system must have; part of `make test`
	$(BIN)/python -m pytest tests/browser

test-system: $(INSTALLED) ## boot a Debian with systemd, and do all with the service (as root; about two minutes)
	$(BIN)/python -m pytest -x -p no:cacheprovider tests/booted

check: lint types test-fast ## format, lint, types and fast tests: before each commit, under a minute

lint: $(INSTALLED) ## check format and lint
	$(BIN)/ruff format --check
	$(BIN)/ruff check

types: $(INSTALLED) ## check types
	$(BIN)/mypy --strict

format: $(INSTALLED) ## format, and mend what lint can mend
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

soak: $(INSTALLED) ## clients, kills, a cleaner and more at once; ARGS='--seconds 600 --seed 7'
	$(BIN)/python -m tests.soak $(ARGS)

load: $(INSTALLED) ## load the daemon until it should give in (about five minutes); ARGS='--quick', '--only hits'
	@benchmarks/install-tools
	$(BIN)/python -m benchmarks.load $(ARGS)

# Some rows, or small archives, are not the comparison that README shows.
BENCH_CHART = $(if $(filter --only --only=% --quick,$(ARGS)),.bench,docs)/benchmarks.svg

bench: $(INSTALLED) $(PEER)/.installed ## measure and draw hubd beside its peers; ARGS='--quick', '--help', ...
	@benchmarks/install-tools
	$(BIN)/python -m benchmarks --peer-python $(PEER)/bin/python --chart $(BENCH_CHART) $(ARGS)

clean: ## remove everything that was built
	rm -rf .venv .venv-* .azurite .bench .booted .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist client/build client/dist
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
