# `make` lists the targets. The first one that needs Python makes .venv; it is made anew only when
# pyproject.toml or constraints.txt change, when the checkout has been moved, or when PYTHON asks for
# another interpreter: PYTHON=python3.12 chooses it, and without PYTHON the one in .venv stays.
# ACCEL=cuda13 or ACCEL=tpu adds what JAX needs for that accelerator, which stays too, and has it used:
# where it can not be, that is an error and not a run on the CPU.
PYTHON ?= python3
ASKED := $(if $(filter file,$(origin PYTHON)),,yes)
VENV := .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python -m
READY := $(VENV)/.ready
LOCKED := experiments cluster cuda13 tpu notebooks dev
PIP := $(RUN) pip install --quiet --disable-pip-version-check

ifneq ($(filter-out cuda13 tpu,$(ACCEL)),)
$(error ACCEL: must be cuda13 or tpu (got $(ACCEL)))
endif
ifneq ($(ACCEL),)
fig2 optimum claims width width-quick width-all preconditioning transformer budget ratio bench: export JAX_PLATFORMS := $(ACCEL:cuda13=cuda)
endif

ifneq ($(shell [ "$(strip $(MAKEFILE_LIST))" -ef Makefile ] && echo here),here)
$(error run it in its own folder: make -C "$(shell dirname "$(strip $(MAKEFILE_LIST))")")
endif

# Which interpreter: where it is from, and its version. What decides an installation: its contents,
# not their times (a fresh checkout or a touched file installs nothing anew), and where it lies.
WHO = -c 'import sys; print(sys.base_prefix, *sys.version_info[:3]); sys.exit(sys.version_info < (3, 11))' 2>/dev/null

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup fig2 optimum claims width width-quick width-all preconditioning transformer budget ratio parity test test-slow check docs bench notebooks rendered lock clean FORCE

help: ## List the targets, with minutes of two x86-64 cores
	@grep -E '^[a-z0-9-]+:.*## ' Makefile | sed 's/:.*## /\t/' | expand -t 14

setup: $(READY) ## Make .venv and install the project into it (1 to 2 minutes)

# An environment of another interpreter, or of another place (where its scripts still point), is made
# from nothing; `there` is empty then.
$(READY): FORCE
	@there=$$($(BIN)/python $(WHO)) || there=; \
	chosen=$$($(PYTHON) $(WHO)) || chosen=; \
	{ read -r content; read -r place; read -r extra; } 2>/dev/null < $@; \
	accel='$(ACCEL)'; accel=$${accel:-$$extra}; \
	wanted=$$(cat pyproject.toml constraints.txt | cksum); here=$$(pwd -P); \
	if [ -n "$(ASKED)" ] && [ "$$there" != "$$chosen" ]; then there=; fi; \
	if [ "$${place:-$$here}" != "$$here" ]; then there=; fi; \
	if [ -n "$$there" ] && [ "$$content $$place $$extra" = "$$wanted $$here $$accel" ]; then exit 0; fi; \
	if [ -z "$$there" ] && [ -z "$$chosen" ]; then \
	  echo "error: PYTHON: must be Python 3.11 or newer (got $(PYTHON): $$($(PYTHON) --version 2>&1 | head -n 1)); try make PYTHON=python3.12" >&2; exit 2; \
	fi; \
	echo "installing into $(VENV) (once, a minute or two)" && \
	if [ -z "$$there" ] || ! $(RUN) pip --version > /dev/null 2>&1; then \
	  rm -rf $(VENV) && $(PYTHON) -m venv $(VENV); \
	fi && \
	$(PIP) -c constraints.txt -e ".[experiments,dev$${accel:+,$$accel}]" && \
	printf '%s\n' "$$wanted" "$$here" "$$accel" > $@.tmp && mv $@.tmp $@

fig2: $(READY) ## Figure 2 of the paper at full size, both losses (1 minute): results/fig2, figures/fig2_*
	$(RUN) experiments.fig2

optimum: $(READY) ## Where the optimum lies: 96 seeds on a coarser grid (5 minutes): results/optimum, figures/optimum_*
	$(RUN) experiments.optimum

claims: $(READY) ## Every claim of the theory, measured (5 minutes): results/claims, figures/{claims.md,phase,rules,exponents,slopes,fig1}
	$(RUN) experiments.claims

width: $(READY) ## The landscape over widths and ranks (27 minutes): results/width, figures/width_*
	$(RUN) experiments.width

width-quick: $(READY) ## The same as a first look (1 minute): results/width_quick, figures/width_quick_*
	$(RUN) experiments.width_quick

width-all: $(READY) ## The same with all seeds, inits and ranks (135 minutes): results/width_all, figures/width_all_*
	$(RUN) experiments.width_all

preconditioning: $(READY) ## Is one rate enough under scaled gradients and LoRA-RITE (3 minutes): results/preconditioning, figures/preconditioning.*
	$(RUN) experiments.preconditioning

transformer: $(READY) ## LoRA+ on a small transformer, over rates and ratios (6 minutes): results/transformer, figures/transformer.*
	$(RUN) experiments.transformer

budget: $(READY) ## Ways to train at equal budgets of tuning (20 minutes): results/budget, figures/budget.*
	$(RUN) experiments.budget

ratio: $(READY) ## The suggested λ against λ = 1 and λ tuned, on toys over widths (10 minutes): results/ratio, figures/ratio.*
	$(RUN) experiments.ratio

parity: $(READY) ## The same training with PEFT on PyTorch, which this installs (1 minute): figures/parity.*
	$(PIP) -c constraints.txt -e '.[experiments,peers]'
	JAX_PLATFORMS=cpu $(RUN) experiments.parity

test: check ## All of `check`, tests and doctests (8 minutes)
	$(RUN) pytest -n auto --dist worksteal

test-slow: $(READY) ## The tests of whole commands, notebooks and examples (8 minutes)
	$(RUN) pytest -n auto --dist worksteal -m slow

check: $(READY) ## Linter, formatter, type checker, who may import whom, docs (1 minute)
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(BIN)/lint-imports --no-logo
	@$(MAKE) --no-print-directory docs

# From nothing: a page that has not changed is not read again, and its links may lead nowhere by now.
docs: $(READY) ## Build the docs, broken links being errors: docs/_build/html (half a minute)
	rm -rf docs/_build
	$(RUN) sphinx --quiet --fail-on-warning --keep-going -c docs . docs/_build/html
	$(RUN) docs.links docs/_build/html

bench: $(READY) ## Speed and memory of the engine against plain implementations (3 minutes)
	$(RUN) experiments.bench

notebooks: $(READY) ## Open the notebooks
	$(PIP) -c constraints.txt -e '.[experiments,notebooks]'
	$(RUN) jupyterlab notebooks

rendered: $(READY) ## The notebooks with their outputs, for the web: docs/notebooks (1 minute)
	JAX_PLATFORMS=cpu $(RUN) notebooks.render

# Of all extras but `peers`.
lock: $(READY) ## Renew constraints.txt from pyproject.toml
	$(PIP) uv
	$(RUN) uv pip compile --universal $(LOCKED:%=--extra %) --no-header --no-annotate --upgrade --quiet \
	  --python-version 3.11 pyproject.toml -o constraints.txt

clean: ## Remove .venv, caches, results and runs; figures stay
	rm -rf $(VENV) results runs docs/_build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
