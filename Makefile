# Every target makes .venv and installs what it needs the first time, and is quick the second.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# Tests wait for each other's processes and for Postgres half of their time: four fill two cores.
JOBS   ?= 4
TESTS  ?=

# Checking definitions must neither find an instance nor report home.
CHECK_DAGSTER := env -u DAGSTER_HOME DAGSTER_DISABLE_TELEMETRY=1 PYTHONWARNINGS=ignore

# Tests start Python hundreds of times: compiling the package anew each time would take longer than most of them.
unexport PYTHONDONTWRITEBYTECODE
# What the tests of one file share is started once; tests/conftest.py lets the longest files begin first.
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

.PHONY: help up down test test-long test-all coverage lint faults simulate soak docs bench bench-parts clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || { \
	  echo "error: $(PYTHON) is $$($(PYTHON) -V 2>&1); Python 3.11 to 3.13 is needed (make PYTHON=python3.12 ...)" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing into $(VENV) (the first time takes about a minute) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --use-pep517 -c constraints.txt -e '.[test,dev,docs,kubernetes]'
	@touch $@

up: $(STAMP) ## start the whole system and play 50 games through it
	@exec $(BIN)/sketchy up

down: $(STAMP) ## stop it from another terminal
	@$(BIN)/sketchy down

test: $(STAMP) ## run the tests, with reports and coverage in reports/ (TESTS=...: a part, without)
ifeq ($(TESTS),)
	@$(PYTEST) -m "not long" --junit-xml=reports/junit.xml --cov --cov-report=
	@$(BIN)/python -m tests.check_coverage
else
	@$(PYTEST) $(TESTS)
endif

test-long: $(STAMP) ## run the tests that take minutes each
	@$(PYTEST) -m long --junit-xml=reports/junit-long.xml

test-all: test test-long ## run every test

coverage: $(STAMP) ## judge what the last whole run of the tests covered
	@$(BIN)/python -m tests.check_coverage

lint: $(STAMP) ## form, types, layers, Dagster definitions
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python -m tests.check_tree
	@$(CHECK_DAGSTER) $(BIN)/dagster definitions validate -m sketchy_orchestration.definitions --log-level warning

faults: $(STAMP) ## break everything on purpose, many times, and report (FAULTS="--rounds 3 --outage 30": shorter)
	@$(BIN)/python -m tests.faults $(FAULTS)

simulate: $(STAMP) ## play a million games on virtual time, with faults (GAMES=..., SEED=...)
	@$(BIN)/python -m tests.simulation --games $(or $(GAMES),1000000) --seed $(or $(SEED),1)

docs: $(STAMP) ## build the documentation's site into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

soak: $(STAMP) ## what only time shows: a million games, an old transaction, hours of play (SOAK="--minutes 10")
	@$(BIN)/python -m benchmarks.soak $(SOAK)

bench: $(STAMP) ## ourselves beside peers and a floor, report in reports/benchmarks; 5 minutes, FULL=1: 45 (needs npm)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@$(BIN)/python -m benchmarks.side_by_side $(if $(FULL),--full)

bench-parts: $(STAMP) ## the benchmarks of single parts, each beside a floor of its own; FULL=1: as long as their figures ask
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@$(BIN)/python -m benchmarks --out reports/benchmarks $(if $(FULL),--full)

clean: ## stop the local stack and remove what was made here, its data too
	@test ! -x $(BIN)/sketchy || $(BIN)/sketchy down --quiet --delete-data || true
	@rm -rf $(VENV) .sketchy .pytest_cache .mypy_cache .ruff_cache reports site
