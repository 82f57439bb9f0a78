# make run: environment, dependencies, dashboard. make test: environment, dependencies, checks and tests.

PYTHON ?= python3
VENV ?= .venv
PORT ?= 8501
# Of the tests, side by side; 0 is none, for a debugger.
WORKERS ?= 2
BIN := $(VENV)/bin

.PHONY: run test lint format benchmarks clean

run: $(VENV)/.run
	$(BIN)/streamlit run app.py --server.port $(PORT)

test: lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmarks: $(VENV)/.dev
	$(BIN)/python -m benchmarks.start
	$(BIN)/python -m benchmarks.recipe
	$(BIN)/python -m benchmarks.large
	$(BIN)/python -m benchmarks.slider
	$(BIN)/python -m benchmarks.sensitivity
	$(BIN)/python -m benchmarks.simplify
	$(BIN)/python -m benchmarks.no_training
	$(BIN)/python -m benchmarks.coding --figure assets/coding.svg
	$(BIN)/python -m benchmarks.moments
	$(BIN)/python -m benchmarks.conversions
	$(BIN)/python -m benchmarks.latency
	$(BIN)/python -m benchmarks.latency --lookup
	$(BIN)/python -m benchmarks.latency_check
	$(BIN)/python -m benchmarks.recovery --untrained
	$(BIN)/python -m benchmarks.deep_compression

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; $(PYTHON) is older. Run: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/python requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@echo "Compiling, once: about half a minute."
	@$(BIN)/python -m paretoscope evaluate lenet-300-100 --preset tiny --runtime sparse >/dev/null
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python requirements.txt requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@ $(VENV)/.run

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
