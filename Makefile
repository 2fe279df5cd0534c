# Everything runs in .venv, made on first use by `make env` and used again after.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
# test files are shared out over three processes, each file to one; on two cores the third works while another waits
PYTEST = $(BIN)/python -m pytest -n 3 --dist loadfile

.PHONY: env demo test test-slow lint docs bench clean

env: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "CLOUDS needs Python 3.11 or newer; name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

demo: env
	$(BIN)/clouds demo

lint: env
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(PYTEST) -m "not slow"

test-slow: env
	$(PYTEST) -m slow

docs: env
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	$(BIN)/python benchmarks/contact_sheet.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: env
	$(BIN)/python benchmarks/streets.py
	$(BIN)/python benchmarks/loading.py
	$(BIN)/python benchmarks/scoring.py
	$(BIN)/python benchmarks/model.py --quick

clean:
	rm -rf build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
