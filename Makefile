# make demo | test | fuzz | chaos | lint | docs | study | bench | lock -- each makes .venv from the pinned lock when it is missing or older.
SHELL := /bin/bash
.DELETE_ON_ERROR:
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.complete
# One thread a process unless a command asks for more: numerical libraries oversubscribe small machines.
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: help demo study test test-fast fuzz chaos lint docs format bench lock clean

help:
	@sed -n 's/^#: //p' $(MAKEFILE_LIST)

$(STAMP): requirements.lock requirements-cpu.lock requirements-cuda.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name it with PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	@# pip prefers the index's build to one on disk when both hashes are allowed: 6 GB where 1.5 would do.
	@$(PY) -m pip install --quiet --no-index --require-hashes --no-deps -r requirements-cpu.lock 2>/dev/null \
		&& echo "torch: the CPU build that pip finds on disk" || echo "torch: the index's build"
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@if $(PY) -c 'import importlib.metadata as m, sys; sys.exit(not any("nvidia" in r or "cuda" in r for r in m.requires("torch")))'; then \
		echo "this torch is built for CUDA: installing the libraries that it names"; \
		$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements-cuda.lock; \
	fi
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	touch $@

#: make .venv      the environment, from the lock
.venv: $(STAMP)

#: make demo       everything once, small, on this CPU (two cores: under 15 minutes)
demo: $(STAMP)
	$(PY) launch.py experiment=demo

#: make study      the demo at length (two cores: about two hours); rewrites docs/study.md
study: $(STAMP)
	$(PY) launch.py experiment=study

#: make test       the whole test suite, in two processes; a file's tests stay in one, with what they have made
test: $(STAMP)
	$(PY) -m pytest tests -n 2 --dist loadfile --no-loadscope-reorder --durations=30

#: make test-fast  the fast part of it
test-fast: $(STAMP)
	$(PY) -m pytest tests -m "not slow" -n 2 --dist loadfile -q

#: make fuzz       the property tests on examples nobody has seen, FUZZ_ROUNDS (5) times over
fuzz: export HYPOTHESIS_PROFILE = fuzz
fuzz: $(STAMP)
	for round in $$(seq $${FUZZ_ROUNDS:-5}); do $(PY) -m pytest -q -n 2 -m "not slow" \
		$$(grep -rlE "^from hypothesis" tests --include="test_*.py") || exit 1; done

#: make chaos      kills: 10,000 on runs that train nothing, 200 on real ones, at every write; prints what was lost
chaos: $(STAMP)
	$(PY) -m tests.chaos.stops
	$(PY) -m tests.chaos.real_runs --runs 64 --kills 200 --demo
	$(PY) -m tests.chaos.kills 10000

#: make lint       ruff and mypy --strict
lint: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

#: make docs       the documentation site, into site/, every warning an error
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

format: $(STAMP)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean:
	rm -rf $(VENV) outputs build dist site *.egg-info src/*.egg-info
