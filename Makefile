# Same commands on a laptop, a cluster node and in continuous integration.
#   make setup PYTHON=python3.11                 another interpreter
#   make setup TORCH_FLAGS='--index-url <url>'   another build of torch (CPU only, another CUDA)

PYTHON ?= python3
TORCH_FLAGS ?=
BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test bench check clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' Makefile

setup: $(INSTALLED)  ## create .venv with the tested versions and the package in it

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt $(TORCH_FLAGS) 'torch>=2.6,<2.14'
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $(INSTALLED)

# One thread per process: the networks are small, more threads only wait for each other.
demo: export OMP_NUM_THREADS = 1
demo: setup  ## train three methods for a few minutes and draw what they learned
	$(BIN)/metairn-train -m study=demo method=ppo,meta_irn,oracle environment.length=10,50 \
		seed=0,1,2 training.budget_env_steps=40000
	$(BIN)/metairn-report study=demo

test: setup  ## run the tests
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

bench: setup  ## measure speed and memory beside other PPOs; keep the machine idle meanwhile
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks

check: setup  ## lint, formatting, types, layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:  ## remove .venv, caches and temporary runs (experiment_data/demo, outputs, multirun)
	rm -rf .venv build dist source/*.egg-info outputs multirun experiment_data/demo
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find source tests benchmarks -type d -name __pycache__ -prune -exec rm -rf {} +
