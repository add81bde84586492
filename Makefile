# On a fresh machine with Python 3.11 or newer, `make lab` and `make test` do everything.

PYTHON ?= python3
VENV ?= .venv
LAB_ARGS ?=

PY := $(VENV)/bin/python
PARALLEL := -n auto --maxprocesses 4
READY := $(VENV)/.resnet-nb-ready
BROKEN := $(shell test -x $(PY) || echo broken)
ROOT_FLAG := $(if $(filter 0,$(shell id -u)),--allow-root)

.PHONY: help setup lab test chromium browser slides site notebooks check-notebooks colab address clean broken

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile
	@echo "  Options: PYTHON=python3.13  VENV=.venv  LAB_ARGS='--no-browser --port=8899'"

setup: $(READY) ## make .venv with the tested versions (once; again when they change)
	@echo "$(VENV) is ready"

# .jupyter switches off JupyterLab's question about news and its look for updates.
lab: export JUPYTER_CONFIG_PATH := $(CURDIR)/.jupyter$(if $(JUPYTER_CONFIG_PATH),:$(JUPYTER_CONFIG_PATH))
lab: $(READY) ## open the notebooks in JupyterLab
	$(PY) -m jupyterlab --ServerApp.root_dir=notebooks $(ROOT_FLAG) $(LAB_ARGS)

test: $(READY) ## lint, run the tests, then every notebook against its stored outputs
	$(PY) -m ruff check --no-cache .
	$(PY) -m ruff format --no-cache --check .
	$(PY) -m pytest $(PARALLEL) tests
	$(PY) -m pytest $(PARALLEL) --nbval notebooks/

chromium: $(READY) ## install Chromium, if there is none
	@tools/chromium $(PY)

browser: $(READY) ## look at JupyterLab, the slides and the site in Chromium
	@$(PY) -m tools.browser
	$(PY) -m pytest -m browser tests

slides: $(READY) ## one deck and one handout a chapter, offline, in build/slides
	$(PY) -m tools.slides

site: $(READY) ## the notebooks as a static site with search, offline, in build/site
	$(PY) -m tools.site

notebooks: $(READY) ## execute every notebook anew and store the outputs
	$(PY) -m tools.notebooks address
	$(PY) -m tools.notebooks execute

check-notebooks: $(READY) ## execute every notebook anew and compare, pictures included
	$(PY) -m tools.notebooks execute --check

colab: $(READY) ## every notebook as Colab starts it: make colab PYTHON=python3.13
	$(PY) -m tools.colab $(PYTHON)

address: $(READY) ## of a fork, everywhere: make address REPO=you/your-fork
	$(PY) -m tools.notebooks address $(REPO)

clean: ## remove caches and build files (keeps .venv, data and runs)
	rm -rf build dist *.egg-info .pytest_cache .coverage
	find . \( -path ./.git -o -path ./$(VENV) -o -path ./data -o -path ./runs \) -prune \
	  -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -type d -exec rm -rf {} +

# The stamp comes last, so that an interrupted set-up is taken up again by the next call.
# An environment is reused as long as it works; pip then changes only what differs. It is
# broken when the Python it was made of is gone.
$(READY): requirements.txt pyproject.toml $(BROKEN)
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo "There is no '$(PYTHON)' here. Install Python 3.11 or newer, or name yours: make lab PYTHON=/path/to/python3"; \
	  exit 1; } >&2
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "'$(PYTHON)' is older than Python 3.11. Name a newer one: make lab PYTHON=python3.13"; \
	  exit 1; } >&2
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "'$(PYTHON)' cannot make environments: venv or ensurepip is missing (Debian, Ubuntu: apt install python3-venv)"; \
	  exit 1; } >&2
	@$(PY) -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing into $(VENV). The first time this downloads up to 3 GB, most of it PyTorch."
	$(PY) -m pip install --disable-pip-version-check -r requirements.txt
	$(PY) -m pip install --disable-pip-version-check --no-deps -e .
	@touch $(READY)
