# Everything runs in .venv, made on first use by `make env` and used again after.
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
BIN = $(VENV)/bin
STAMP = $(VENV)/.installed
BASE = $(VENV)/.installed-base
# a package with its extras into VENV, by uv where it is there. Nothing is compiled ahead: of 22,000 files a first command
# needs a few thousand and compiles them in 15 s, all of them take a minute
INSTALL = $(if $(shell command -v uv),uv pip install --python $(BIN)/python,$(BIN)/python -m pip install --disable-pip-version-check --no-compile) --quiet
# test files are shared out over three processes, each file to one; on two cores the third works while another waits.
# One thread each: more of them would wait for each other on tensors this small
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile

.PHONY: env demo test test-fast test-slow test-long test-clusters test-lowest test-latest check-gpu lint docs dist bench advisories materials clean

env: $(STAMP)

$(STAMP): pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(INSTALL) -c $(CONSTRAINTS) -e ".[dev]"
	@touch $@ $(BASE)

# the package alone: what a user needs
$(BASE): pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	$(INSTALL) -c $(CONSTRAINTS) -e .
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "CLOUDS needs Python 3.11 or newer; name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)

demo: $(BASE)
	$(BIN)/clouds demo

lint: env
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint test-fast

test-fast: env
	$(PYTEST) -m "not slow"

test-slow: env
	$(PYTEST) -m "slow and not long and not cluster"

test-long: env
	$(PYTEST) -m long

# on true schedulers: SLURM where it is installed and root may start it, Ray with `pip install 'clouds[ray]'`
test-clusters: env
	$(BIN)/python -m pytest -m cluster

# the lowest versions that pyproject.toml allows, in an environment of their own
test-lowest:
	mkdir -p build && $(PYTHON) tests/lowest.py > build/lowest.txt
	$(MAKE) env VENV=.venv-lowest CONSTRAINTS=build/lowest.txt
	.venv-lowest/bin/python -m pytest -n 3 --dist loadfile -m "not slow"

# on any machine with a CUDA GPU: what has to hold there, and how fast it is; about five minutes. Send back what it prints
check-gpu: env
	$(BIN)/python benchmarks/check_gpu.py --out gpu.json

# the newest versions there are, in an environment of their own
test-latest:
	mkdir -p build && touch build/latest.txt
	$(MAKE) env VENV=.venv-latest CONSTRAINTS=build/latest.txt
	.venv-latest/bin/python -m pytest -n 3 --dist loadfile -m "not slow"

# sdist and, made from it, wheel; what an empty environment that got nothing else can do
dist: env
	rm -rf dist build/empty build/demo
	$(INSTALL) build
	$(BIN)/python -m build --outdir dist
	$(PYTHON) -m venv build/empty
	build/empty/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt dist/*.whl
	cd build && empty/bin/python -m clouds doctor && empty/bin/clouds demo --minutes 0.5 --out demo

# known advisories of the packages that constraints.txt pins; asks an advisory database
advisories: env
	$(PYTHON) -m venv build/audit
	build/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	build/audit/bin/python -m pip_audit --no-deps --disable-pip -r constraints.txt

# name, version, licence and megabytes of every package in the environment
materials: env
	@$(BIN)/python benchmarks/materials.py

docs: env
	$(INSTALL) -c constraints.txt -e ".[docs]"
	$(BIN)/python benchmarks/contact_sheet.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# every claim of speed with its goal, at most 30 minutes; alone on the machine
bench: env
	$(BIN)/python benchmarks/all.py

clean:
	rm -rf build .venv-lowest .venv-latest dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
