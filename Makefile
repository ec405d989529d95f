# Every target works alone on a machine with Python 3.11 or newer, make and a package index.
# The environment lives in .venv and is rebuilt when pyproject.toml or constraints.txt change.

SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
DEMO := runs/clothing-reviews
PYTEST_ARGS ?=

# The first interpreter that starts and is new enough; override with `make PYTHON=/path/to/python3 …`.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

.PHONY: help demo test lint types docs ci clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-6s %s\n", $$1, $$2}' Makefile

$(VENV)/.core: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "salience needs Python 3.11 or newer with the venv module; none was found." \
		"Install one, or run: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Installing salience into $(VENV) with $$($(PYTHON) --version) …"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	@echo "Installing what tests, checks and documentation need …"
	@$(PIP) -e '.[test,dev,docs]'
	@touch $@

demo: $(VENV)/.core ## train, explain and audit on 23,486 clothing reviews; write one report
	@$(BIN)/salience run clothing-reviews --drop Rating --out $(DEMO)
	@echo; echo "Open in a browser: $(CURDIR)/$(DEMO)/report.html"

test: $(VENV)/.dev ## run the tests
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.dev ## check format, style and the direction of imports
	$(BIN)/ruff format --check src tests docs
	$(BIN)/ruff check src tests docs
	$(BIN)/lint-imports

types: $(VENV)/.dev ## check the types of the public API
	$(BIN)/mypy

docs: $(VENV)/.dev ## build the documentation into site/
	$(BIN)/mkdocs build --strict --quiet --site-dir site

ci: ## everything that must pass before a change lands
	@bash .ci/run

clean: ## remove the environment, runs and everything that was built
	rm -rf $(VENV) runs site build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
