# Every target makes .venv and installs what it needs the first time, and is quick the second.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
JOBS   ?= 2

.PHONY: help up test lint bench clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || { \
	  echo "error: $(PYTHON) is $$($(PYTHON) -V 2>&1); Python 3.11 to 3.13 is needed (make PYTHON=python3.12 ...)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (the first time takes about a minute) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,dev]'
	@touch $@

up: $(STAMP) ## start the whole system and play 50 games through it
	@exec $(BIN)/sketchy up

test: $(STAMP) ## run every test
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup

lint: $(STAMP) ## form, types, layers, Dagster definitions
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python -m tests.check_tree

bench: $(STAMP) ## run the benchmarks and print their tables
	@$(BIN)/python -m benchmarks

clean: ## stop the local stack and remove what was made here
	@test ! -x $(BIN)/sketchy || $(BIN)/sketchy down --quiet || true
	@rm -rf $(VENV) .sketchy .pytest_cache .mypy_cache .ruff_cache reports
