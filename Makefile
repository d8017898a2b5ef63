# One environment for everything; the first target that needs it makes it.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP_FLAGS := -c constraints.txt
# Small tensors: several threads a process only get in each other's way.
export OMP_NUM_THREADS ?= 1

.PHONY: help demo test lint docs examples bench clean

help:  ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -e ".[dev]"
	touch $@

$(VENV)/.installed-docs: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -e ".[dev,docs]"
	touch $(VENV)/.installed $@

demo: $(VENV)/.installed  ## Train two networks on digits with the callbacks and write TensorBoard logs and pictures
	$(BIN)/python examples/quickstart.py $(DEMO_FLAGS)

test: $(VENV)/.installed  ## Run the tests and the doctests
	$(BIN)/python -m pytest -q -n auto --dist loadgroup

lint: $(VENV)/.installed  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

examples: $(VENV)/.installed  ## Run every example, each in a temporary folder
	$(BIN)/python examples/run_all.py

docs: $(VENV)/.installed-docs  ## Build the documentation into docs/_build/html
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

bench: $(VENV)/.installed  ## Run the benchmarks and write their results to benchmarks/results
	for script in benchmarks/[a-z]*.py; do $(BIN)/python $$script || exit 1; done

clean:  ## Remove what the other targets made, the environment included
	rm -rf $(VENV) docs/_build docs/auto_examples runs lightning_logs .pytest_cache .mypy_cache .ruff_cache .hypothesis
