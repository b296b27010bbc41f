# Every target sets itself up: nothing but Python >= 3.10, git and make need be there.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OLDEST := .venv-oldest
OLDEST_STAMP := $(OLDEST)/.installed
STUDY := $(BIN)/hf-stabilizer study

.DEFAULT_GOAL := help
.PHONY: help install check format test test-slow test-browser test-oldest layer-coverage \
	layer-coverage-small ladders early-stopping study-speed procedures demo demo-small clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{split($$1, target, ":"); printf "  make %-14s %s\n", target[1], $$2}'

install: $(STAMP) ## Make .venv with everything for development

$(STAMP): pyproject.toml constraints.txt requirements-demo.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet -r constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt --group dev -e '.[plots]'
	$(BIN)/python -m pip install --quiet --no-deps -r requirements-demo.txt
	touch $(STAMP)

$(OLDEST_STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(OLDEST)/bin/python -m pip install --quiet -r constraints.txt
	$(OLDEST)/bin/python -m pip install --quiet -c constraints.txt --group dev -e '.[plots]' "transformers==5.4.0"
	touch $(OLDEST_STAMP)

check: $(STAMP) ## Formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP) ## Format, and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# One thread of torch in each of two processes; more threads than cores only wait for each other.
test: $(STAMP) ## The suite, without the heavy and the browser proofs
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m "not slow and not browser"

test-slow: $(STAMP) ## The heavier proofs
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m slow

test-browser: $(STAMP) ## The report in headless Chromium (Debian: chromium chromium-driver)
	$(BIN)/pytest -m browser

test-oldest: $(OLDEST_STAMP) ## The suite with the oldest transformers that is supported
	OMP_NUM_THREADS=1 $(OLDEST)/bin/pytest -n 2 -m "not slow and not browser" tests

layer-coverage: $(STAMP) ## The layer map over every class of transformers, about ten minutes
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/layer_coverage.py --jobs 2

layer-coverage-small: $(STAMP) ## The same for every tenth class, written nowhere that is kept
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/layer_coverage.py --jobs 2 --every 10 --output results/layer-coverage

# The rows of the next four lie beside the project, or where DATA says.
DATA ?= ../shared/data

ladders: $(STAMP) ## Two published ladders over many seeds, about an hour on two idle cores
	$(BIN)/python benchmarks/ladders.py commonlit --data $(DATA)/commonlit
	$(BIN)/python benchmarks/ladders.py science-exam --data $(DATA)/llm_science_exam
	$(BIN)/python benchmarks/measured_tables.py

early-stopping: $(STAMP) ## Stopping early, replayed on sixty whole runs, half an hour or more
	$(BIN)/python benchmarks/early_stopping.py --data $(DATA)/sst2
	$(BIN)/python benchmarks/early_stopping.py --data $(DATA)/sst2 --real
	$(BIN)/python benchmarks/early_stopping.py --report
	$(BIN)/python benchmarks/measured_tables.py

study-speed: $(STAMP) ## A study against a shell loop, on a quiet machine, twelve minutes
	$(BIN)/python benchmarks/study_speed.py
	$(BIN)/python benchmarks/measured_tables.py

procedures: $(STAMP) ## Procedures around whole runs against their controls, an hour and a half on two idle cores
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/procedures.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/preparations.py --data $(DATA)
	$(BIN)/python benchmarks/measured_tables.py

demo: $(STAMP) ## Two recipes, six seeds, real data: results/demo/report.html, about ten minutes
	$(STUDY) configs/demo.yaml --recipes plain stabilised --runs 6

demo-small: $(STAMP) ## The same in a minute, too short to show anything
	rm -rf results/demo-small
	$(STUDY) configs/demo.yaml --recipes plain stabilised --runs 2 --output-dir results/demo-small --max_steps 4 --max_train_rows 64 --validation_size 64 --max_test_rows 64

clean: ## Remove what was made, results aside
	rm -rf $(VENV) $(OLDEST) build dist .mypy_cache .ruff_cache .pytest_cache
