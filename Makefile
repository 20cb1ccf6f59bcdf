# Two commands do all set-up on a machine with Python 3.11 or newer: `make demo` and `make test`.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= solvar-demo
# tests of a file stay together: they share what is long to make
PARALLEL ?= -n 2 --dist loadfile
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test browser-tests test-slow fmt lint type imports docs bench clean distclean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## / — /' 

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Stamps: nothing is installed again until pyproject.toml or constraints.txt changes.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,docs]'
	@touch $@ $(VENV)/.installed-dev $(VENV)/.installed

demo: $(VENV)/.installed  ## install into .venv and run the demonstration (two minutes)
	$(BIN)/solvar demo --output $(DEMO) --overwrite

test: $(VENV)/.installed-dev  ## the fast tests
	$(BIN)/python -m pytest -m "not slow and not browser" $(PARALLEL) $(PYTEST_ARGS)

# A system with apt-get and root gets the browser; elsewhere its tests are skipped and say so.
browser-tests: $(VENV)/.installed-dev  ## pages and reports in a headless Chromium
	@if ! { command -v chromium && command -v chromedriver; } >/dev/null 2>&1; then \
	    if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	        apt-get update -qq && DEBIAN_FRONTEND=noninteractive timeout 600 apt-get install -y -qq --no-install-recommends \
	            chromium chromium-driver >/dev/null || echo "chromium could not be installed"; \
	    else echo "chromium and chromium-driver are missing: the browser tests are skipped"; fi; \
	fi
	timeout 1200 $(BIN)/python -m pytest -m browser --timeout 300 $(PYTEST_ARGS)

test-slow: $(VENV)/.installed-dev  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow $(PARALLEL) $(PYTEST_ARGS) || [ $$? -eq 5 ]  # 5: no test is marked slow

fmt: $(VENV)/.installed-dev  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only .

lint: $(VENV)/.installed-dev  ## ruff, format and rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

type: $(VENV)/.installed-dev  ## mypy
	$(BIN)/mypy

imports: $(VENV)/.installed-dev  ## import-linter: the layers of docs/architecture.md
	$(BIN)/lint-imports

# without --quiet, which would hide warnings from --strict
docs: $(VENV)/.installed-docs  ## the documentation site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "open site/index.html; its search needs a server: $(BIN)/python -m http.server -d site -b 127.0.0.1"

bench: $(VENV)/.installed-dev  ## the benchmarks, printed with the machine's name
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

clean:  ## remove caches and the demo
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage htmlcov \
	    build dist site $(DEMO)
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## also remove .venv
	rm -rf $(VENV)
