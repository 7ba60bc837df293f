# Everything a reader types. Set-up happens by itself, in .venv, from requirements.lock with hashes checked.

PYTHON  ?= python3
PROFILE ?= quick
RUN     ?=

VENV   := .venv
BIN    := $(VENV)/bin
LOCKED := $(VENV)/.locked
READY  := $(VENV)/.ready

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv reproduce figures lab docs test lock clean

help: ## this list
	@echo 'usage: make TARGET [PROFILE=smoke|quick|full] [RUN=name] [PYTHON=python3.12]'
	@echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(READY) ## the environment, in .venv, from requirements.lock

reproduce: $(READY) ## measure, draw, judge and typeset: PROFILE=quick, RUN=PROFILE unless given
	@$(BIN)/zcipc reproduce --profile $(PROFILE) --run $(or $(RUN),$(PROFILE))

figures: $(READY) ## redraw figures and article from saved data: RUN=reference
	@$(BIN)/zcipc figures $(or $(RUN),reference)

lab: $(READY) ## the notebooks, in JupyterLab
	@$(BIN)/jupyter lab notebooks

docs: $(READY) ## the reference documentation, in build/docs
	@$(BIN)/python -m zcipc.lab.publishing.manual build/docs

test: $(READY) ## style, types and tests
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/pytest

lock: ## pin every package anew, for Python 3.11 to 3.13, in requirements.lock
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/pip install --quiet uv
	$(VENV)-lock/bin/uv pip compile pyproject.toml --extra lab --extra peers --extra test --group build \
	    --universal --python-version 3.11 --generate-hashes --upgrade \
	    --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command 'make lock' \
	    --quiet --output-file requirements.lock
	rm -rf $(VENV)-lock

clean: ## remove the environment, caches and every run but `reference`
	rm -rf $(VENV) $(VENV)-lock build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find data figures paper -mindepth 1 -maxdepth 1 -type d ! -name reference -exec rm -rf {} + 2>/dev/null || true

# A changed lock means a new environment: pip removes nothing by itself.
$(LOCKED): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	    echo 'zcipc needs Python 3.11, 3.12 or 3.13, and "$(PYTHON)" is' \
	         "$$($(PYTHON) --version 2>&1 || true). Name another one: make PYTHON=python3.12 ..."; exit 1; } >&2
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo '"$(PYTHON)" cannot make environments: its venv module, or the pip that belongs in it, is missing.' \
	         'On Debian and Ubuntu: apt install python3-venv'; exit 1; } >&2
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements.lock
	@touch $@

$(READY): $(LOCKED) pyproject.toml
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	$(BIN)/python -m zcipc.lab.warm
	@touch $@
