# Every target sets itself up: nothing but Python >= 3.10, git and make need be there.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install check format test test-slow test-browser demo demo-small clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

install: $(STAMP) ## Make .venv with everything for development

$(STAMP): pyproject.toml constraints.txt requirements-demo.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet -r constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt --group dev -e '.[plots]'
	$(BIN)/python -m pip install --quiet --no-deps -r requirements-demo.txt
	touch $(STAMP)

check: $(STAMP) ## Formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP) ## Format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: $(STAMP) ## The whole suite, without the heavy and the browser proofs
	$(BIN)/pytest -n 2 -m "not slow and not browser"

test-slow: $(STAMP) ## The heavier proofs
	$(BIN)/pytest -n 2 -m slow

test-browser: $(STAMP) ## The report in headless Chromium (chromium and chromedriver must be there)
	$(BIN)/pytest -m browser

clean: ## Remove what was made
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
