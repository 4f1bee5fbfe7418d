# Each target does its own set-up; `make demo` and `make test` are all that one needs.
#
#   make demo     play a whole consortium on this machine, end with a report
#   make test     run the tests
#   make check    everything that a change must pass: format, lint, types, imports, tests
#   make learn    put the network to cohorts with a known truth: about 20 minutes
#   make cross-validate TABLE=clinical.csv    beside Cox on the public table
#   make fuzz     files of any content against what reads them: 10 minutes
#   make read     time and memory from a study's files to the store
#   make memory   memory and time of a site's data commands as patients grow in number
#   make bench    time and memory of a training step: about 15 minutes
#   make rounds   what a round costs beside NVIDIA FLARE and plain Flower: about an hour
#   make strategies   every strategy on sites that differ: about 12 minutes
#   make soak     kills, hostile replies, bad lines, full disks, many sites: about two hours
#   make errors   write docs/errors.md from the catalogue of errors
#   make clean    remove the environment and what the tools left

PYTHON ?= python3
VENV ?= .venv
DIR ?= acf-demo
TORCH ?= torch==2.13.0
FUZZ_SECONDS ?= 90
# For another build of torch, such as CUDA's: the options that its installation page gives.
TORCH_OPTIONS ?=

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: demo test check static format learn cross-validate fuzz read memory rounds strategies soak bench errors clean

demo: $(INSTALLED)
	$(BIN)/acf-server demo --dir $(DIR)

test: $(INSTALLED_DEV)
	$(BIN)/python -m pytest

check: static test

static: $(INSTALLED_DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED_DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

learn: $(INSTALLED_DEV)
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python benchmarks/learning.py --write benchmarks/learning.md

cross-validate: $(INSTALLED)
	@test -n "$(TABLE)" || { echo "Give the public cohort's table: make $@ TABLE=clinical.csv" >&2; exit 2; }
	$(BIN)/python benchmarks/cross_validation.py $(TABLE) --write benchmarks/cross-validation.md

bench: $(INSTALLED)
	$(PIP) install --constraint constraints.txt --group bench
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/step_cost.py --write benchmarks/step-cost.md

fuzz: $(INSTALLED_DEV)
	$(PIP) install --constraint constraints.txt --group fuzz
	for target in header series segmentation structures nifti csv xlsx; do \
		OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python fuzz/fuzz_files.py $$target \
			-max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 || exit 1; \
	done

read: $(INSTALLED)
	$(PIP) install --constraint constraints.txt --group bench
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/reading.py --write benchmarks/reading.md

memory: $(INSTALLED)
	PYTHONPATH=tests $(BIN)/python benchmarks/cohort_memory.py --write benchmarks/cohort_memory.md

strategies: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/strategies.py --write benchmarks/strategies.md

soak: $(INSTALLED_DEV)
	for what in kills hostile line many_sites large_model disk; do \
		OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python soak/$$what.py || exit 1; \
	done

rounds: $(INSTALLED)
	$(BIN)/python benchmarks/rounds.py --sites 2,4 --mb 1,20,200 --write benchmarks/rounds.md

errors: $(INSTALLED)
	$(BIN)/python docs/make_errors.py

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "acfnet needs Python 3.11 or newer; this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade "pip>=25.1"
	$(PIP) install --constraint constraints.txt $(TORCH_OPTIONS) $(TORCH)
	$(PIP) install --constraint constraints.txt --editable .
	touch $@

$(INSTALLED_DEV): $(INSTALLED)
	$(PIP) install --constraint constraints.txt --group dev
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
