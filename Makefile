# Each target does its own set-up in .venv and is quick when nothing changed.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: help demo test slow trackers check examples format faults soak bench bench-metrics bench-growth bench-rules \
  package matrix bench-ranks bench-intervals bench-demo bench-epoch bench-leakage bench-peers docs pages gpu gpu-tests \
  gpu-bench clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    fine-tune against from-scratch on real handwriting, offline, with a verdict"
	@echo "make test    the test suite"
	@echo "make slow    the tests that take longest; CI runs them too"
	@echo "make trackers  tests against MLflow, W&B, trackio and TensorBoard, in an environment of their own"
	@echo "make check   lint, types and layers"
	@echo "make package what users install: wheel and sdist, checked, each tried in a fresh environment; minutes"
	@echo "make matrix  a part of the suite with several versions of Python and torch (MATRIX='3.10:2.6 --minutes 25'); a quarter of an hour each"
	@echo "make bench   what it costs, beside other libraries: BENCHMARKS.md and docs/growth.md; ten minutes"
	@echo "make bench-metrics  the part on metrics alone, printed"
	@echo "make bench-growth   the part on growth: docs/growth.md"
	@echo "make bench-ranks    what a sync over ranks costs, beside torchmetrics, as in docs/ranks.md"
	@echo "make bench-rules    false alarms and power of every rule, as in docs/rules.md"
	@echo "make bench-leakage  how often an audit finds planted copies and errs, as in docs/leakage.md; minutes"
	@echo "make docs    the site of the documentation, into build/site; a broken link or name fails it"
	@echo "make pages   docs/scores.md, docs/faults.md and functional.pyi from their tables"
	@echo "make gpu     tests and benchmark on this machine's GPU, with PYTHON as it is: minutes"
	@echo "make faults  what happens when something goes wrong, from the tests that show it"
	@echo "make soak    ten minutes of killed ranks, full disks and errors, against an independent count (SOAK=--minutes 1)"
	@echo "make bench-intervals  how often the 95 % intervals hold the truth, by simulation; minutes"
	@echo "make bench-demo   the demo with 20 other sets of seeds: does its headline hold; half an hour"
	@echo "make bench-peers CHECKOUTS=folder  other libraries' own suites with ptmetrics in the place of their metrics"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "python: expected 3.10 or newer, got $$($(PYTHON) -V). Run make PYTHON=/path/to/a/newer/python3."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "venv: expected a Python with venv, got none. On Debian run apt-get install python3-venv."; exit 1; }

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	$(BIN)/ptmetrics demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 -m "not slow"

slow: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

# Beside .venv, whose packages it sees: what the trackers bring along changes nothing there.
TRACKERS := .venv-trackers

$(TRACKERS)/.done: pyproject.toml | $(VENV)/.dev
	$(BIN)/python -m venv $(TRACKERS)
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > \
	  "$$($(TRACKERS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/main.pth"
	$(TRACKERS)/bin/python -m pip install --quiet --disable-pip-version-check '.[tensorboard,trackio,mlflow,wandb]'
	@touch $@

trackers: $(TRACKERS)/.done
	$(TRACKERS)/bin/python -m pytest -rs tests/integrations/test_trackers.py \
	  tests/test_doctests.py -k "trackers or integrations"

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python tests/typing/user_script.py
	$(BIN)/python -m pytest tests/test_layers.py

# Builds with an environment of its own, so that .venv needs neither.
PACKAGING := .venv-packaging

$(PACKAGING)/.done: pyproject.toml | $(BIN)/python
	$(BIN)/python -m venv $(PACKAGING)
	$(PACKAGING)/bin/python -m pip install --quiet --disable-pip-version-check build twine
	@touch $@

package: $(PACKAGING)/.done
	$(PACKAGING)/bin/python -m tests.studies.package

matrix: | $(BIN)/python
	$(BIN)/python -m tests.studies.matrix $(MATRIX)

examples: $(VENV)/.dev
	rm -rf build/examples
	$(BIN)/python examples/drop_in.py build/examples/drop_in
	$(BIN)/python examples/finetune_resnet.py build/examples/resnet
	$(BIN)/torchrun --nproc-per-node 2 examples/ddp.py build/examples/ddp
	$(BIN)/torchrun --nproc-per-node 2 examples/accelerate_example.py build/examples/accelerate

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/.bench: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@

bench-metrics: $(VENV)/.bench
	$(BIN)/ptmetrics bench --metrics

bench: $(VENV)/.bench
	$(BIN)/ptmetrics bench --out .
	$(BIN)/python -m tests.studies.growth

bench-growth: $(VENV)/.bench
	$(BIN)/python -m tests.studies.growth

bench-ranks: $(VENV)/.bench
	$(BIN)/python -m tests.studies.ranks

bench-rules: $(VENV)/.dev
	$(BIN)/python -m tests.studies.rules

bench-leakage: $(VENV)/.dev
	$(BIN)/python -m tests.studies.leakage

# Beside .venv as well: what builds the site is needed nowhere else.
DOCS := .venv-docs

$(DOCS)/.done: pyproject.toml | $(VENV)/.dev
	$(BIN)/python -m venv $(DOCS)
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > \
	  "$$($(DOCS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/main.pth"
	$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check '.[docs]'
	@touch $@

docs: $(DOCS)/.done
	PYTHONPATH=$(CURDIR) NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/python -m mkdocs build -f docs/site/mkdocs.yml

pages: $(VENV)/.dev
	$(BIN)/python -m tests.studies.pages

faults: $(VENV)/.dev
	$(BIN)/python -m pytest tests -n 2 --faults-table

SOAK ?= --minutes 10 --ranks 3

soak: $(VENV)/.dev
	$(BIN)/python -m tests.studies.soak $(SOAK)

bench-intervals: $(VENV)/.dev
	$(BIN)/python -m tests.studies.intervals

bench-demo: $(VENV)/.demo
	$(BIN)/python -m tests.studies.demo

bench-epoch: $(VENV)/.dev
	$(BIN)/python -m tests.studies.epoch_end

bench-peers: $(VENV)/.bench
	$(BIN)/python -m tests.studies.peer_suites "$(CHECKOUTS)"

# On a machine with a GPU, where nothing is installed: torch, pytest and torchmetrics must be there.
gpu: gpu-tests gpu-bench

gpu-tests:
	PTMETRICS_KERNELS=1 PYTHONPATH=$(CURDIR) $(PYTHON) -m pytest -p no:benchmark -n 4 --durations=10 -rs tests/cuda

gpu-bench:
	PYTHONPATH=$(CURDIR) $(PYTHON) examples/gpu_benchmark.py --quick

clean:
	rm -rf $(VENV) $(TRACKERS) $(DOCS) $(PACKAGING) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
