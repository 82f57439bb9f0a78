# make run: environment, package, dashboard. make test: environment, package, checks and tests.

PYTHON ?= python3
VENV ?= .venv
PORT ?= 8501
# Of the tests, side by side; 0 is none, for a debugger.
WORKERS ?= 2
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Those of them that are on this machine run `make test-all`.
PYTHONS ?= python3.11 python3.12 python3.13

.PHONY: run test fast test-all lint format benchmarks clean

run: $(VENV)/.run
	$(BIN)/paretoscope run --port $(PORT)

test: lint $(VENV)/.compiled
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

# The quick nine tenths of the tests.
fast: $(VENV)/.dev $(VENV)/.compiled
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not slow" $(ARGS)

# Each Python has an environment of its own beside this one, such as .venv-3.12.
test-all:
	@ran=; for python in $(PYTHONS); do \
		version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || \
			{ echo "$$python is not on this machine."; continue; }; \
		echo "The tests, on $$python:"; \
		$(MAKE) --no-print-directory test PYTHON=$$python VENV=.venv-$$version || exit 1; ran="$$ran $$version"; \
	done; \
	if [ -z "$$ran" ]; then echo "None of $(PYTHONS) is on this machine. Name others: make test-all PYTHONS=..."; exit 1; fi; \
	echo "Passed on:$$ran"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# ARGS=--write puts the tables into docs/measured.md.
benchmarks: $(VENV)/.dev
	$(BIN)/python -m benchmarks.start $(ARGS)
	$(BIN)/python -m benchmarks.recipe $(ARGS)
	$(BIN)/python -m benchmarks.large $(ARGS)
	$(BIN)/python -m benchmarks.large_networks $(ARGS)
	$(BIN)/python -m benchmarks.evaluation $(ARGS)
	$(BIN)/python -m benchmarks.networks $(ARGS)
	$(BIN)/python -m benchmarks.slider $(ARGS)
	$(BIN)/python -m benchmarks.live $(ARGS)
	$(BIN)/python -m benchmarks.report $(ARGS)
	$(BIN)/python -m benchmarks.sensitivity $(ARGS)
	$(BIN)/python -m benchmarks.simplify $(ARGS)
	$(BIN)/python -m benchmarks.presets $(ARGS)
	$(BIN)/python -m benchmarks.studies $(ARGS)
	$(BIN)/python -m benchmarks.no_training $(ARGS)
	$(BIN)/python -m benchmarks.coding --figure assets/coding.svg $(ARGS)
	$(BIN)/python -m benchmarks.moments $(ARGS)
	$(BIN)/python -m benchmarks.constants $(ARGS)
	$(BIN)/python -m benchmarks.conversions $(ARGS)
	$(BIN)/python -m benchmarks.latency $(ARGS)
	$(BIN)/python -m benchmarks.lookup $(ARGS)
	$(BIN)/python -m benchmarks.latency_check $(ARGS)
	$(BIN)/python -m benchmarks.recovery --untrained $(ARGS)
	$(BIN)/python -m benchmarks.deep_compression $(ARGS)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; $(PYTHON) is older. Run: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The package is installed where it lies: what is edited here is what runs.
$(VENV)/.run: $(VENV)/bin/python pyproject.toml requirements.txt
	$(PIP) -e .
	@echo "Compiling, once: about half a minute."
	@$(BIN)/paretoscope evaluate lenet-300-100 --preset tiny --runtime sparse >/dev/null
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml requirements.txt requirements-dev.txt
	$(PIP) -r requirements-dev.txt -e .
	@touch $@ $(VENV)/.run

# Once, and not in each of the processes that test side by side.
$(VENV)/.compiled: $(VENV)/.dev
	@echo "Compiling, once: about half a minute."
	@$(BIN)/python tests/helpers/compiling.py
	@touch $@

clean:
	rm -rf .venv .venv-* $(VENV) dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
