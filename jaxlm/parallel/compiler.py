"""Options of the XLA compiler: explicit, given to one program and not to the process, recorded with the run."""

import functools
from typing import Any, Literal

import jax

Overlap = Literal["default", "on", "off"]
Options = dict[str, Any]

# What lets collectives run beside computation. libtpu 0.0.42 has all of its own on by default, and each of them off
# leaves not one asynchronous gather in the step on a v5e slice with fsdp (tests/parallel/test_compiler.py). For GPUs:
# the latency-hiding scheduler, streams of their own for collectives, loops over layers unrolled by two.
OVERLAP: dict[str, tuple[str, ...]] = {
    "gpu": (
        "xla_gpu_enable_latency_hiding_scheduler",
        "xla_gpu_enable_highest_priority_async_stream",
        "xla_gpu_enable_while_loop_double_buffering",
    ),
    "tpu": (
        "xla_tpu_enable_latency_hiding_scheduler",
        "xla_enable_async_all_gather",
        "xla_tpu_overlap_compute_collective_tc",
        "xla_tpu_enable_async_collective_fusion",
        "xla_tpu_enable_async_collective_fusion_fuse_all_gather",
        "xla_tpu_enable_async_collective_fusion_multiple_steps",
    ),
}
# For what runs once: LLVM takes half as long, for the same bits.
QUICK: dict[str, Options] = {"cpu": {"xla_backend_optimization_level": 1}}


def step_options(platform: str, overlap: Overlap) -> Options:
    """Returns the options of the training step on "cpu", "gpu" or "tpu"; none where XLA decides, nor on a CPU."""
    return {} if overlap == "default" else {name: overlap == "on" for name in OVERLAP.get(platform, ())}


def quick_options(platform: str) -> Options:
    """Returns the options of a program that runs once, as far as this jaxlib knows them."""
    return {name: value for name, value in QUICK.get(platform, {}).items() if _known(name, value)}


@functools.cache
def _known(name: str, value: Any) -> bool:
    try:
        jax.jit(lambda: 0, compiler_options={name: value}).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True
