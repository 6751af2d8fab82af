# Everything one does here.  Each target sets up what it needs, in .venv and nowhere else; python3 and make are all it asks for.
#
#   make test ARGS="-k hint -x"     hands ARGS to pytest (to the demo in `make demo`)
#   make demo PYTHON=python3.13     makes .venv with that interpreter, where there is none yet

PY := .venv/bin/python
ARGS ?=
export PYTHON

# pyright brings its own node; its cache belongs to the environment, and it need not look for news.
export PYRIGHT_PYTHON_CACHE_DIR := $(CURDIR)/.venv/cache/pyright
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DEFAULT_GOAL := help
.PHONY: help demo test check format lint types layers test-all test-lowest pictures bench clean
.NOTPARALLEL:  # the targets share one environment, and the machine

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name what; do printf '  make %-12s %s\n' "$$name" "$$what"; done

# `python -m resilience.demo`, but for Ctrl-C while it still imports: that ends it without a traceback.
TOUR := import runpy, signal; signal.signal(signal.SIGINT, signal.SIG_DFL); runpy.run_module("resilience.demo", run_name="__main__", alter_sys=True)

demo:  ## a client survives a server that misbehaves in every way its API documents
	@tools/setup demo
	@exec $(PY) -c '$(TOUR)' $(ARGS)

test:  ## the whole suite; decide/ and reading/ must be covered to the last branch
	@tools/setup dev
	@exec $(PY) $(if $(strip $(ARGS)),-m pytest $(ARGS),tools/suite.py)

check: lint types layers  ## format, lint, types and the direction of imports

format:  ## put the code into the house format, and mend what can be mended
	@tools/setup dev
	$(PY) -m ruff check --fix-only --quiet .
	$(PY) -m ruff format .

lint:
	@tools/setup dev
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .

types:
	@tools/setup dev
	$(PY) -m mypy
	$(PY) -m pyright

layers:
	@tools/setup dev
	$(PY) -c 'from importlinter.cli import lint_imports_command; lint_imports_command()' --no-logo --no-cache

test-all:  ## the suite on every CPython from 3.11 to 3.14 found on this machine
	@tools/test-all $(ARGS)

test-lowest:  ## the suite with the oldest libraries that pyproject.toml allows
	@mkdir -p .venv-lowest.d
	@sed -n -e '/^dependencies/,/^]/s/.*"\(.*\)>=\(.*\)".*/\1==\2/p' -e '/^cli/!s/^[a-z0-9]* *= *\["\([a-z0-9-]*\)>=\([0-9.]*\)"\].*/\1==\2/p' pyproject.toml >.venv-lowest.d/constraints.txt
	@PIP_CONSTRAINT=$(CURDIR)/.venv-lowest.d/constraints.txt VENV=.venv-lowest tools/setup dev
	@exec .venv-lowest/bin/python -m pytest $(ARGS)

pictures:  ## draw docs/demo.svg anew, from the demo
	@tools/setup demo
	@exec $(PY) docs/capture.py

# What `make bench` does where ARGS does not say otherwise.
FOUND := --json benchmarks/results.json --svg benchmarks/results.svg --readme

bench:  ## what it costs, beside nine other libraries: renews benchmarks/ (with ARGS="--check": says what misses its aim)
	@tools/setup bench
	@exec $(PY) -m benchmarks $(or $(strip $(ARGS)),$(FOUND))

clean:  ## remove the environments and what tools left behind
	rm -rf .venv .venv-* .venv*.lock .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .coverage build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
