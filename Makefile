# dd: run `make` for the list of commands
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(not (3,11) <= sys.version_info[:2] < (3,15))' && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
RESULTS := results
FIGURES := figures

.PHONY: help setup engine wheels sweep experiments study rmt figures docs reproduce test test-rounding test-faults test-cluster \
	test-ray next-hydra bench bench-gpu lint format clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup: $(VENV)/installed  ## make .venv with the pinned dependencies

$(VENV)/installed: pyproject.toml constraints.txt hatch_build.py $(wildcard dd/kernels/src/*)
	@test -n "$(PYTHON)" || { echo "dd needs Python 3.11 to 3.14; set PYTHON=/path/to/python"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

engine:  ## compile dd/kernels/src again
	@rm -f $(VENV)/installed
	@$(MAKE) --no-print-directory setup

wheels: setup  ## build/wheels: one for this system with the compiled engine, one without for any other
	$(BIN)/python -m pip wheel --quiet --no-deps --disable-pip-version-check --wheel-dir build/wheels .
	DD_PURE=1 $(BIN)/python -m pip wheel --quiet --no-deps --disable-pip-version-check --wheel-dir build/wheels .

sweep: setup  ## the main job: 80 runs on digits, then its figure
	$(BIN)/python -m dd.run -m 'width=range(10,2000,50)' optimizer=sgd,adam
	$(BIN)/python -m analysis.figures --results $(RESULTS) --out $(FIGURES) --name default

experiments: setup  ## every preset at the small scale (a quarter of an hour); the same command goes on after a stop
	@$(BIN)/python -m dd.experiments results_dir=$(RESULTS)

study: setup  ## what the verdict asks for beside the presets: more methods, nets of n = 1000 (an hour on two cores); goes on after a stop
	@$(BIN)/python -m dd.experiments 'claim_*' 'nets_[!f]*' 'tuned_*' nets_fashion results_dir=$(RESULTS)

rmt: setup  ## the presets of the vision backbone on digits (an hour on two cores); goes on after a stop
	@$(BIN)/python -m dd.experiments rmt_width_digits rmt_initialization rmt_normalization rmt_batch_size rmt_optimizer \
		rmt_conditioning results_dir=$(RESULTS)

figures: setup  ## draw every table in results/
	@$(BIN)/python -m analysis.figures --results $(RESULTS) --out $(FIGURES)

docs: setup $(VENV)/documented  ## the documentation as a site, build/docs/index.html (40 s with its installation)
	@OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -q -W --keep-going -c docs -d build/doctrees . build/docs
	@echo "build/docs/index.html"

$(VENV)/documented: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt 'dd-lab[docs]'
	@touch $@

reproduce: setup  ## whether the same runs give the same numbers here, bit for bit, and those that come with dd (10 s)
	@OMP_NUM_THREADS=1 $(BIN)/python -m dd.reproduce

test: setup lint  ## lint, then all tests; TESTS=tests/results for one folder, DD_ENGINE=baseline for another build of the engine
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal $(TESTS)

test-rounding: setup  ## the tests that hang on the last bits, with the engine built for the oldest processors
	DD_ENGINE=baseline ATEN_CPU_CAPABILITY=default OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m rounding \
		$$(grep -rl mark.rounding tests)

test-faults: setup  ## the long form of the tests of kills, damaged files and bad input (half an hour)
	DD_FAULTS=long OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 tests/faults tests/executors tests/workers

test-cluster: setup  ## a real Slurm on this machine, and a sweep that everything happens to (two minutes; needs root)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.cluster.slurm

test-ray: setup  ## executor=ray on a real Ray of two nodes, workers and nodes killed on the way (a minute); installs Ray into .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt 'ray>=2.40'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/executors/test_ray.py

next-hydra: setup  ## the tests of what Hydra does, with the coming Hydra 1.4
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(CURDIR)/build/hydra \
		hydra-core==1.4.0rc3 omegaconf==2.4.1rc1
	PYTHONPATH=$(CURDIR)/build/hydra OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m hydra \
		$$(grep -rl mark.hydra tests)

bench: setup  ## dd beside a plain torch loop and JAX, whole commands beside plain scripts (an hour and a half)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt 'jax>=0.4.30'
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/packed.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/sweep.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/own.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/scaling.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/exact.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/rmt.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/scale.py

bench-gpu: setup  ## on a GPU: tests, every way to train, decompositions, whole commands, a sweep beside a plain loop (8 minutes)
	PYTHON=$(BIN)/python benchmarks/gpu_check.sh

lint: setup  ## ruff (style, docstrings, format), mypy, the floors of the code, and whether docs/axes.md is current
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo --no-cache
	@$(BIN)/python -m dd.cli.axes_page --check

format: setup  ## rewrite the sources in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove .venv and caches; results and figures stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
