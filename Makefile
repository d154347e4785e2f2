# The commands of this project; `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUNTIME := azure-functions-runtime==1.3.0

.PHONY: help setup dev demo test test-real bench lint up locks clean
help: ## list these commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

# The runtime package declares Python 3.13+, and is what Azure loads there. It also runs on 3.11 and 3.12,
# so it is installed past that declaration and without its dependencies, which the lock names.
$(VENV)/.run: locks/run.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, this is " + sys.version)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r locks/run.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --ignore-requires-python $(RUNTIME)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.run locks/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r locks/dev.txt
	touch $@

setup: $(VENV)/.run ## make .venv with the relay command

dev: $(VENV)/.dev ## add what tests and lint need

demo: setup ## the main job, embedded: bundle in, rows, event, GUID back in the FHIR resource
	$(BIN)/relay demo

test: dev ## every hermetic test, with branch coverage
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --numprocesses 2 --dist worksteal
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=97

test-real: dev ## the tests on software that nobody here wrote (installed once, into a cache)
	$(BIN)/python -m pytest -m real

bench: dev ## print the figures of docs/performance.md as JSON lines
	$(BIN)/python bench/run.py

lint: dev ## style, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

up: setup ## the whole stack on this machine, until Ctrl-C
	$(BIN)/relay up

locks: ## compile locks/*.in again (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate locks/run.in -o locks/run.txt
	uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate locks/dev.in -o locks/dev.txt

clean: ## remove what these commands made
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage* build dist *.egg-info .relay
