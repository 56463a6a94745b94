"""Starts `jaxlm` in processes of its own, one core each, and reads what they recorded."""

import os
import pathlib
import subprocess
import sys

import jax
import numpy as np

from scaling import record

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Which process of the test run this is: each has its processes on a core of its own.
NUMBER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
# On one core, for a worker of the pool has one, and bits depend on the count.
PINNED = f"""
import os, sys
if hasattr(os, "sched_setaffinity"):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {{cores[{NUMBER} % len(cores)]}})
"""
MAIN = PINNED + """
from jaxlm.cli import main
sys.exit(main())
"""
# XLA's own code for fusions takes most of the compilation of programs as small as these; jaxlib 0.12 has no such flag.
FEWER_PASSES = "--xla_cpu_use_fusion_emitters=false" if jax.__version_info__ < (0, 11) else ""
# The same with a fault, which the first word names.
FAULTY = PINNED + f"""
sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r})
import fault_program
sys.exit(fault_program.main())
"""


def start(*words, cache, program=MAIN, flags=None, quick=True):
    """Starts `jaxlm words`; processes with the same `cache` folder share compiled programs.

    `quick` leaves out XLA's costly passes: a third of the compilation. The exactness suite has them all.
    """
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(cache),
                                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                                "JAX_DISABLE_MOST_OPTIMIZATIONS": str(quick)}
    environment["XLA_FLAGS"] = f"{flags or os.environ.get('XLA_FLAGS', '')} {FEWER_PASSES if quick else ''}".strip()
    return subprocess.Popen([sys.executable, "-c", program, *map(str, words)], cwd=ROOT, env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    """Waits for the process; returns (exit code, standard output, standard error)."""
    stdout, stderr = process.communicate(timeout=240)
    return process.returncode, stdout, stderr


def runs_of(study_folder):
    """Returns {configured name: run} of a study's records."""
    return {run.identity["config"]["name"]: run for run in map(record.read, record.find(study_folder))}


def last_state(run):
    """Returns {path: array} of the run's last checkpoint: parameters, optimizer state, step, checksum."""
    import orbax.checkpoint as ocp

    with ocp.CheckpointManager((run.folder / "checkpoints").absolute(),
                               options=ocp.CheckpointManagerOptions(read_only=True)) as manager:
        tree = manager.restore(manager.latest_step(), args=ocp.args.StandardRestore())
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def assert_same_end(run, other):
    """Every result field, the final parameters and the optimizer state agree bit for bit."""
    assert record.equal(run, other) == [] and run.notes == ()
    states = last_state(run), last_state(other)
    assert states[0].keys() == states[1].keys() and len(states[0]) > 10
    for path, array in states[0].items():
        np.testing.assert_array_equal(array, states[1][path], err_msg=path)
