"""The contestants of `standard_step.py`, each in a process of its own that makes updates when told to.

The process may run in an interpreter without jaxlm or without JAX: each side imports what it needs.
"""

import functools
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine

ROOT = Path(__file__).resolve().parents[2]
SIZES = {
    "S": {"layers": 2, "width": 64, "heads": 4, "feed_forward": 256, "vocabulary": 256, "sequence": 128, "batch": 32},
    "M": {"layers": 4, "width": 256, "heads": 4, "feed_forward": 1024, "vocabulary": 4096, "sequence": 256,
          "batch": 16},
    "L": {"layers": 8, "width": 512, "heads": 8, "feed_forward": 2048, "vocabulary": 32768, "sequence": 512,
          "batch": 4},
}
STANDARD = SIZES["M"]
LR, WEIGHT_DECAY = 1e-3, 0.1
KEEP = "+keep"

# Makes one update and returns the loss before it, in nats per token.
Advance = Callable[[], float]


def plain(sizes: dict[str, int], dtype: str, *, flat: bool) -> Advance:
    """Returns the baseline in plain JAX."""
    import plain_step

    step, state, batch = plain_step.make(**sizes, dtype=dtype, flat=flat)

    def advance() -> float:
        nonlocal state
        state, loss = step(state, batch)
        return float(loss)

    return advance


def jaxlm(sizes: dict[str, int], dtype: str) -> Advance:
    """Returns jaxlm's compiled chunk, one update a call, with the buffer and the metrics that a run has by default."""
    import jax
    import numpy as np
    from jax.sharding import NamedSharding, PartitionSpec

    from jaxlm.train import RunConfig, make_step
    from jaxlm.train.state import init_state

    config = step_config(sizes, dtype)
    compiled = make_step(config)
    state = init_state(config.model, compiled.tx, mesh=compiled.mesh, seed=0)
    chunk = RunConfig.chunk
    tokens = np.random.default_rng(0).integers(
        0, sizes["vocabulary"], (sizes["batch"], sizes["sequence"] + 1), dtype=np.int32)
    batches = np.broadcast_to(tokens, (chunk, 1, *tokens.shape))
    lrs = np.full(chunk, LR, np.float32)
    # On the mesh like the flag that comes back, so that the second call need not compile again.
    healthy = jax.device_put(True, NamedSharding(compiled.mesh, PartitionSpec()))

    def advance() -> float:
        nonlocal state, healthy
        state, healthy, made, metrics = compiled.run_chunk(
            state, healthy, batches, lrs, np.int32(1), np.float32(WEIGHT_DECAY), np.uint32(0))
        made, metrics = jax.device_get((made, metrics))
        if made != 1 or not healthy:
            raise RuntimeError(f"the update was not made, loss {metrics.train_loss[0]}")
        return float(metrics.train_loss[0])

    return advance


def step_config(sizes: dict[str, int], dtype: str = "float32") -> Any:
    """Returns jaxlm's `StepConfig` of the baseline's work; imports jaxlm, as only a child may."""
    from jaxlm.model import ComputeConfig, ModelConfig
    from jaxlm.optim import AdamW
    from jaxlm.parallel import MeshConfig
    from jaxlm.train import StepConfig

    model = ModelConfig(
        vocabulary=sizes["vocabulary"], sequence=sizes["sequence"], layers=sizes["layers"], width=sizes["width"],
        heads=sizes["heads"], ff=sizes["feed_forward"], norm="layernorm", positions="learned",
        activation="gelu", tied=True, compute=ComputeConfig(dtype=dtype))
    return StepConfig(model=model, optimizer=AdamW(b1=0.9, b2=0.95, eps=1e-8), clip_norm=None, z_loss=0.0,
                      accumulation=1, mesh=MeshConfig())


def torch(sizes: dict[str, int], dtype: str, *, compiled: bool) -> Advance:
    """Returns the same in torch, on as many threads as the process has cores."""
    import torch_step

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return torch_step.make(sizes, dtype, compiled=compiled, threads=cores)


def peer(sizes: dict[str, int], dtype: str, *, name: str) -> Advance:
    """Returns the step of a public trainer."""
    import peers

    return getattr(peers, name)(sizes, dtype)


# The first three must run; the others are compared where they are installed.
OWN = {"plain": functools.partial(plain, flat=False), "plain flat": functools.partial(plain, flat=True), "jaxlm": jaxlm}
PEERS = {"torch": functools.partial(torch, compiled=False), "torch.compile": functools.partial(torch, compiled=True),
         **{name: functools.partial(peer, name=name) for name in ("nanodo", "simply", "levanter")}}
SIDES = OWN | PEERS


def serve(name: str, sizes: dict[str, int], cores: list[int] | None, dtype: str = "float32") -> None:
    """Answers each line "updates" with a JSON line about calls that make them; ends with its input.

    `name` may end in "+keep", which makes the allocator setting first. A failure is an answer too, the last one.
    """
    # What others print must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # Pinned before JAX starts, which sizes its thread pool by the cores it may use.
    if cores is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    if name.endswith(KEEP):
        _keep_memory()
    try:
        lines = iter(sys.stdin)
        first = next(lines, None)
        advance = SIDES[name.removesuffix(KEEP)](sizes, dtype)
        versions = machine.versions()
        while first is not None:
            print(json.dumps(_answer(advance, int(first)) | {"versions": versions}), file=answers, flush=True)
            first = next(lines, None)
    except Exception as error:  # whatever a peer raises, the comparison goes on without it
        import traceback

        traceback.print_exc()
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=answers, flush=True)


def _answer(advance: Advance, updates: int) -> dict[str, Any]:
    import resource

    wall, cpu = time.perf_counter(), time.process_time()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    losses = [advance() for _ in range(updates)]
    after = resource.getrusage(resource.RUSAGE_SELF)
    peak = after.ru_maxrss if sys.platform == "darwin" else 1024 * after.ru_maxrss
    return {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu,
            "faults": after.ru_minflt - faults, "loss": losses[0], "process_cpu_seconds": time.process_time(),
            "peak_rss_bytes": peak}


def _keep_memory() -> None:
    """Makes the setting of `jaxlm.allocator`, from its file, for a peer's interpreter has no jaxlm."""
    spec = importlib.util.spec_from_file_location("allocator", ROOT / "jaxlm" / "allocator.py")
    allocator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(allocator)
    if not allocator.keep():
        raise RuntimeError("no glibc here, whose setting +keep is")
