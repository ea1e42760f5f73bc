# make demo    images from a prompt with the shipped model
# make test    the test suite             make slow     the tests that take long
# make lint    ruff and pyright        make docs     the documentation, warnings are errors
# make readme  tables of the pages      make picture  README's picture    make book  docs/editing.md's
# make ci      what continuous integration runs
# make peers   the libraries we measure against, in .venv-peers
#
# All the rest lives in .venv, made on first use and remade when pyproject.toml or constraints.txt change.

PYTHON ?= python3
JOBS ?= 2
PROMPTS ?= examples/sixteen.txt
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := .venv-peers

.DEFAULT_GOAL := help
.PHONY: help env demo test slow lint format docs readme book picture peers ci clean

help:
	@sed -n '1,8s/^# \{0,1\}//p' Makefile

env: $(STAMP)

# PIP_CONSTRAINT and not -c, so that the build of the package is pinned as well. The stamp comes last: an
# interrupted installation is taken up again by the next call.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "Mezzotint needs Python 3.10 or newer; found: $$($(PYTHON) --version 2>&1). Try make PYTHON=python3.11" >&2; exit 1; }
	@echo "making the environment in $(VENV) (once; a few minutes, most of it PyTorch)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 \
	  $(BIN)/python -m pip install -e ".[dev,docs,train,metrics,medical,photo,diffusers]"
	@touch $@

demo: env
	@$(BIN)/python -m mezzotint sample --prompts $(PROMPTS) --out demo/demo.png

test: env
	$(BIN)/python -m pytest -n $(JOBS)

# What takes too long for every run: measured orders on finer grids, demonstrations with their trained part.
slow: env
	$(BIN)/python -m pytest -n $(JOBS) -m slow

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: env
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: env
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "documentation: docs/_build/html/index.html"

readme: env
	$(BIN)/python tools/readme_table.py
	$(BIN)/python tools/sampler_table.py
	$(BIN)/python tools/restore_table.py

book: env
	$(BIN)/python tools/editing_book.py

picture: env
	@$(BIN)/python -m mezzotint sample --prompts $(PROMPTS) --out demo/demo.png
	@mkdir -p docs/images && cp demo/demo.png docs/images/demo.png

# Apart from .venv: the peers bring torchvision, which breaks the import of other packages beside some builds of torch.
# The core set comes with its dependencies, the peers without theirs; setuptools last, as a peer needs an old one.
peers: $(PEERS)/.installed

$(PEERS)/.installed: pyproject.toml constraints.txt constraints-peers.txt
	@echo "making the peers' environment in $(PEERS) (once; a few minutes)"
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	@PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 $(PEERS)/bin/python -m pip install \
	  -e ".[bench,diffusers,train]" beartype hypothesis jsonschema pytest scikit-image tqdm
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(PEERS)/bin/python -m pip install --no-deps -r constraints-peers.txt
	@$(PEERS)/bin/python benchmarks/peers.py
	@touch $@

ci:
	.ci/run

clean:
	rm -rf $(VENV) $(PEERS) docs/_build demo .pytest_cache .ruff_cache
