# `make` lists the targets. The first one that needs Python makes .venv; it is re-made only when
# pyproject.toml or constraints.txt change. PYTHON=python3.12 chooses the interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
STAMP = $(shell cat pyproject.toml constraints.txt | cksum)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup fig2 optimum claims width width-quick width-all test check bench notebooks lock clean FORCE

help: ## List the targets
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(READY) ## Make .venv and install the project into it

# Compared by content, not by time: a fresh checkout or a touched file installs nothing anew.
$(READY): FORCE
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "error: PYTHON: must be Python 3.11 or newer (got $(PYTHON): $$($(PYTHON) --version 2>&1 | head -n 1)); try make PYTHON=python3.12" >&2; exit 2; }
	@if [ "$$(cat $@ 2>/dev/null)" != "$(STAMP)" ] || [ ! -x $(BIN)/python ]; then \
	  echo "installing into $(VENV) (once, a minute or two)" && \
	  $(PYTHON) -m venv $(VENV) && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[experiments,dev]' && \
	  echo "$(STAMP)" > $@.tmp && mv $@.tmp $@; \
	fi

fig2: $(READY) ## Figure 2 of the paper at full size, both losses: results/fig2, figures/fig2_*
	$(BIN)/python -m experiments.fig2

optimum: $(READY) ## Where the optimum lies: 96 seeds on a coarser grid: results/optimum, figures/optimum_*
	$(BIN)/python -m experiments.optimum

claims: $(READY) ## Every claim of the theory, measured: results/claims, figures/{fig1,phase,exponents,slopes}
	$(BIN)/python -m experiments.claims

width: $(READY) ## The landscape over widths and ranks, 27 minutes: results/width, figures/width_*
	$(BIN)/python -m experiments.width

width-quick: $(READY) ## The same as a first look, one minute: results/width_quick, figures/width_quick_*
	$(BIN)/python -m experiments.width_quick

width-all: $(READY) ## The same with all seeds, inits and ranks, two and a quarter hours: results/width_all, figures/width_all_*
	$(BIN)/python -m experiments.width_all

test: check ## Linter, type checker, tests, doctests and notebooks
	$(BIN)/python -m pytest -n auto --dist worksteal

check: $(READY) ## Linter, formatter, type checker, who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: $(READY) ## Speed and memory of the engine against plain implementations
	$(BIN)/python -m experiments.bench

notebooks: $(READY) ## Open the notebooks
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[experiments,notebooks]'
	$(BIN)/jupyter lab notebooks

lock: $(READY) ## Renew constraints.txt from pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile --universal --all-extras --no-header --no-annotate --upgrade --quiet \
	  --python-version 3.11 pyproject.toml -o constraints.txt

clean: ## Remove .venv, caches, results and runs; figures stay
	rm -rf $(VENV) results runs .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
