# Every target first brings .venv in line with requirements.lock; only Python 3.11+ and make must be there already.
#   make test ARGS="-k opw"          more arguments for the program behind a target
#   make demo PYTHON=python3.12      the interpreter that a new .venv is made with

PYTHON ?= python3
ARGS ?=
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check lock bench train clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' Makefile

demo: $(READY) ## real video in, depth volumes, table and comparison video out (demo-out/)
	$(BIN)/nvds demo $(ARGS)

test: $(READY) ## all tests, in two processes (JOBS=N for more)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

check: $(READY) ## format, lint, types and the quick tests: what a change must pass
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

lock: $(READY) ## renew requirements.lock from pyproject.toml
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --upgrade --output-file requirements.lock

bench: $(READY) ## the figures of the bundled models
	$(BIN)/python -m benchmarks.tiny_models $(ARGS)

train: $(READY) ## train the bundled models again from their seed
	$(BIN)/nvds train $(ARGS)

clean: ## remove caches and the demo's output; .venv and your own results stay
	rm -rf build demo-out .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# uv itself comes from the lock too, with its hashes; pip reads that one entry.  setuptools is in the lock, so the
# project is installed without a build environment of its own.
$(READY): requirements.lock pyproject.toml
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || $(MAKE) --no-print-directory new-venv
	@$(BIN)/uv --version >/dev/null 2>&1 || { \
		awk '/^uv==/ { on = 1 } on { print; if (!/\\$$/) exit }' requirements.lock > $(VENV)/uv.txt && \
		{ $(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip; } && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --force-reinstall --require-hashes -r $(VENV)/uv.txt; }
	$(BIN)/uv pip sync --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: new-venv
new-venv:
	@command -v $(PYTHON) >/dev/null || { \
		echo 'no "$(PYTHON)" on this machine; install Python 3.11 or newer, or name one: make PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "$(PYTHON) is Python %d.%d, but 3.11 or newer is needed; name another one: make PYTHON=python3.12" % sys.version_info[:2])'
	$(PYTHON) -m venv --clear $(VENV)
