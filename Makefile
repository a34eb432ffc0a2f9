# Two commands matter: `make run` and `make test`. Both do their own set-up in .venv and can be repeated.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: run test lint types unit long notebooks clean
.DEFAULT_GOAL := run

run: $(VENV)/.run
	$(BIN)/archsearch run --devices devices.yaml

test: $(VENV)/.test
	.ci/system-packages
	$(MAKE) --no-print-directory lint types unit

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(VENV)/.test
	$(BIN)/mypy

# What runs commands and measures comes after the rest, file by file; no test is judged by its time.
unit: $(VENV)/.test
	$(BIN)/python -m pytest -n 3 --durations=15 tests/unit tests/conformance
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=25 tests/e2e

# What takes minutes and is covered in short by `make test`: a phone's link broken in every phase, for one.
long: $(VENV)/.test
	.ci/system-packages
	$(BIN)/python -m pytest -m long

# Executes the notebooks and writes their outputs into them; `python notebooks/measure.py --help` takes their data anew.
notebooks: $(VENV)/.test
	$(BIN)/python notebooks/execute.py

# A virtual environment made by another Python, or half made, is made anew.
$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "archsearch needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) --version 2>&1`. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@.ci/system-packages venv $(PYTHON)
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.run: $(VENV)/.python pyproject.toml constraints.txt
	$(PIP) install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.test: $(VENV)/.run
	$(PIP) install --quiet --constraint constraints.txt --editable '.[test,postgresql,peer]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
