# Each target makes its .venv when there is none, and starts at once when there is one.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: demo test lint bench conformance format clean

demo: $(STAMP)
	$(BIN)/shoptalk demo -w demo-workspace

test: $(STAMP)
	$(BIN)/pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python benchmarks/quality.py

# Checkers and clients by others, from npm, into a folder that git ignores; a newer node is among them.
CHECKERS := tests/server/conformance
conformance: $(STAMP) $(CHECKERS)/node_modules/.installed
	$(BIN)/pytest -n 0 tests/server/test_conformance.py

$(CHECKERS)/node_modules/.installed: $(CHECKERS)/package.json
	npm install --prefix $(CHECKERS) --no-package-lock --no-audit --no-fund
	@touch $@

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# torch first: its release is pinned in constraints.txt, so that nothing asks for a newer, larger one.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with make PYTHON=python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cpu,dev]'
	@touch $(STAMP)

clean:
	rm -rf $(VENV) demo-workspace .pytest_cache .ruff_cache .mypy_cache
