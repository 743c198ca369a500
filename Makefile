# The developer loop; continuous integration calls nothing else. `make help` lists the targets.
#
#   make train ARGS="--preset cartpole"     options after those of the target
#   make train TORCH=cpu                    the CPU build of torch, a tenth of the download, for machines without a GPU
#
# TORCH counts when the environment is made. To change it later: rm -r .venv

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
LOWEST := build/lowest
TORCH_VERSION := $(shell sed -n 's/^torch==//p' constraints.txt)
PACKAGES := proto common env_client server
API := $(notdir $(wildcard api/*.py))
TYPES := $(PACKAGES:%=.types/seedbed/%) $(API:%=.types/seedbed/%)

.DEFAULT_GOAL := help
.PHONY: help setup train test test-slow test-lowest chaos check format proto docs docs-site wheel hashes bench gpu

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) ## make .venv with everything, under constraints.txt

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "expected Python 3.11 or later, $(PYTHON) is older: make PYTHON=python3.12 ..." >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }
	@echo "installing into .venv: torch $(TORCH_VERSION), gRPC, Gymnasium, ALE, TensorBoard, matplotlib, and the tools of tests and checks"
	@echo "(versions: constraints.txt; minutes the first time, most of them torch: 2 GB or more with CUDA, 0.2 with TORCH=cpu)"
ifeq ($(TORCH),cpu)
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --extra-index-url https://download.pytorch.org/whl/cpu torch==$(TORCH_VERSION)+cpu
endif
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[atari,server,dashboard,plot,dev]'
	@touch $@

train: setup ## train Pong from pixels on this machine; again to resume
	$(BIN)/seedbed train --preset pong $(ARGS)

test: setup ## the tests that take less than 10 minutes on 2 cores
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: setup ## the others: minutes each
	$(BIN)/python -m pytest -m slow $(ARGS)

test-lowest: ## the tests with the lowest versions that pyproject.toml allows, in an environment of their own, build/lowest
	@test -x $(LOWEST)/bin/pip || $(PYTHON) -m venv $(LOWEST) || { rm -rf $(LOWEST); exit 1; }
	@$(PYTHON) .ci/lowest.py atari server dashboard plot yaml completion export hub > $(LOWEST)/requirements.txt
ifeq ($(TORCH),cpu)
	@$(LOWEST)/bin/pip install --quiet --disable-pip-version-check --no-deps --extra-index-url https://download.pytorch.org/whl/cpu \
	    $$(sed -n 's/^torch==.*/&+cpu/p' $(LOWEST)/requirements.txt)
endif
	@$(LOWEST)/bin/pip install --quiet --disable-pip-version-check --requirement $(LOWEST)/requirements.txt \
	    pytest pytest-timeout pytest-xdist hypothesis psutil httpx
	@$(LOWEST)/bin/pip install --quiet --disable-pip-version-check --no-deps --editable .
	$(LOWEST)/bin/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -W default $(ARGS)

chaos: setup ## random faults for 10 minutes, then a check of all that happened; ARGS="--seconds 60 --seed 7"
	$(BIN)/python -m tests.chaos $(ARGS)

check: setup $(TYPES) ## format, lint, types, import rules, generated stubs and pages
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	MYPYPATH=.types $(BIN)/mypy -p seedbed -p tests
	$(BIN)/python -m pytest -q tests/test_import_rules.py
	$(BIN)/python proto/generate.py --check
	$(BIN)/python docs/generate.py --check

format: setup ## format, and mend what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

proto: setup ## generate the stubs after a change of seedbed.proto
	$(BIN)/python proto/generate.py

docs: setup ## write the pages that are made from the code: files, options, presets, metrics, errors, wire, API
	$(BIN)/python docs/generate.py

docs-site: setup ## build the documentation site in build/site; every warning is an error
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python docs/site.py build/site

wheel: setup ## build a wheel in dist/, install it far from the checkout, and train with it
	@rm -rf build/lib build/bdist.*
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	$(BIN)/python -m pytest -q -m "slow or not slow" tests/test_wheel.py

hashes: ## write what the images install with the hashes of its files, after a change of constraints.txt; needs uv
	.ci/hashes.sh

bench: setup ## what parts of a step cost alone, the whole system, its efficiency; writes build/bench.json
	$(BIN)/python -m tests.bench $(ARGS)

gpu: setup ## what only a GPU shows: numbers, waits, order, times, in under 15 minutes; writes build/gpu.json
	timeout 840 $(BIN)/python -m tests.bench.gpu $(ARGS)

# mypy does not see the mapping of folders to packages in pyproject.toml; it sees these links.
$(API:%=.types/seedbed/%): .types/seedbed/%:
	@mkdir -p $(@D)
	@ln -sfn ../../api/$* $@

$(PACKAGES:%=.types/seedbed/%): .types/seedbed/%:
	@mkdir -p $(@D)
	@ln -sfn ../../$* $@
