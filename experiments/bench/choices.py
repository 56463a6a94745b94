"""What each choice of `ComputeConfig` costs in time and memory: one process, programs by turns.

    python experiments/bench/choices.py [--size S|M|L] [--rounds 6] [--rows 1024] [--columns 262144]
        [--parts step,loss] [--out FILE]

First the standard step (`sides.py`) in every form, first and last the default; then the loss and both its gradients
alone, from hidden states of width 256, with all logits at once and in chunks, with and without the filter of gradients.
Memory is the compiler's: bytes beyond arguments and results. Freed memory is kept (`jaxlm/allocator.py`).
"""

import argparse
import dataclasses
import functools
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import machine
import sides

FORMS: dict[str, dict[str, Any]] = {
    "default": {},
    "attention plain": {"attention": "plain"},
    "logits at once": {"loss_chunks": 1},
    "8 chunks": {"loss_chunks": 8},
    "scan": {"scan_layers": True},
    "scan, remat projections": {"scan_layers": True, "remat": True, "remat_policy": "projections"},
    "scan, remat attention": {"scan_layers": True, "remat": True, "remat_policy": "attention"},
    "scan, remat block": {"scan_layers": True, "remat": True},
    "bfloat16": {"dtype": "bfloat16"},
    "default again": {},
}
LOSSES: dict[str, dict[str, Any]] = {
    "logits at once": {}, **{f"{chunks} chunks": {"chunks": chunks} for chunks in (1, 4, 8, 32)},
    "8 chunks, filter 2^-12": {"chunks": 8, "filter_eps": 2**-12}}
WIDTH = 256


def main() -> None:
    """Measures, prints two tables, and writes the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=sides.SIZES, default="M", help="of model and batch (default M)")
    parser.add_argument("--rounds", type=int, default=6, help="turns of each form (default 6)")
    parser.add_argument("--rows", type=int, default=1024, help="of the loss alone (default 1024)")
    parser.add_argument("--columns", type=int, default=2**18, help="of the loss alone (default 262144)")
    parser.add_argument("--parts", default="step,loss", help="what to measure (default step,loss)")
    parser.add_argument("--out", type=Path, help="write all figures to this JSON file")
    args = parser.parse_args()
    for name in ("rounds", "rows", "columns"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} = {getattr(args, name)}: must be at least 1")
    parts = args.parts.split(",")
    if not set(parts) <= {"step", "loss"}:
        parser.error(f"--parts = {args.parts}: must be step, loss or step,loss")
    sys.path.insert(0, str(sides.ROOT))
    from jaxlm import allocator

    allocator.keep()  # before JAX is imported
    before = machine.load()
    steps = losses = None
    if "step" in parts:
        steps = _steps(sides.SIZES[args.size], args.rounds)
        print(_table(f"step, {args.size}", steps), flush=True)
    if "loss" in parts:
        losses = _losses(args.rows, args.columns, args.rounds)
        print(_table(f"loss, {args.rows} x {args.columns}", losses))
    if args.out:
        machine.write(args.out, {
            "machine": machine.facts(None), "versions": machine.versions(), "load_before": before,
            "load_after": machine.load(), "size": args.size, "rounds": args.rounds, "rows": args.rows,
            "columns": args.columns, "step": steps, "loss": losses})


def _steps(sizes: dict[str, int], rounds: int) -> dict[str, dict[str, float]]:
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxlm.train import make_step
    from jaxlm.train.state import init_state

    config = sides.step_config(sizes)
    state = init_state(config.model, make_step(config).tx, mesh=make_step(config).mesh, seed=0)
    tokens = np.random.default_rng(0).integers(
        0, sizes["vocabulary"], (1, 1, sizes["batch"], sizes["sequence"] + 1), dtype=np.int32)
    rest = (tokens, np.full(1, sides.LR, np.float32), np.int32(1), np.float32(sides.WEIGHT_DECAY), np.uint32(0))
    programs = {}
    for name, form in FORMS.items():
        compute = dataclasses.replace(config.model.compute, **form)
        step = make_step(dataclasses.replace(config, model=dataclasses.replace(config.model, compute=compute)))
        programs[name] = step.run_chunk.lower(state, jnp.bool_(True), *rest).compile()

    def run(program: Any) -> None:
        nonlocal state
        state = jax.block_until_ready(program(state, jnp.bool_(True), *rest))[0]

    return _by_turns({name: (program, functools.partial(run, program)) for name, program in programs.items()}, rounds)


def _losses(rows: int, columns: int, rounds: int) -> dict[str, dict[str, float]]:
    import jax
    import numpy as np

    from jaxlm import losses

    random = np.random.default_rng(0)
    h_NxD = random.standard_normal((rows, WIDTH), np.float32)
    weights_VxD = random.standard_normal((columns, WIDTH), np.float32) / WIDTH**0.5
    targets_N = random.integers(0, columns, rows, dtype=np.int32)

    def plain(h_NxD: jax.Array, weights_VxD: jax.Array) -> jax.Array:
        return losses.cross_entropy(h_NxD @ weights_VxD.T, targets_N, z_loss=0.0)[0]

    def cut(h_NxD: jax.Array, weights_VxD: jax.Array, **form: Any) -> jax.Array:
        return losses.cut_cross_entropy(h_NxD, weights_VxD, targets_N, z_loss=0.0, **form)[0]

    pair, programs = jax.device_put((h_NxD, weights_VxD)), {}
    for name, form in LOSSES.items():
        fn = functools.partial(cut, **form) if form else plain
        program = jax.jit(jax.value_and_grad(fn, (0, 1))).lower(*pair).compile()
        programs[name] = program, lambda program=program: jax.block_until_ready(program(*pair))
    return _by_turns(programs, rounds)


def _by_turns(programs: Mapping[str, tuple[Any, Callable[[], Any]]], rounds: int) -> dict[str, dict[str, float]]:
    """Returns milliseconds and temporary bytes of each program; the first call of each is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds + 1):
        for name, (_, run) in programs.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return {name: {"median_ms": 1e3 * statistics.median(seconds[name][1:]), "minimum_ms": 1e3 * min(seconds[name][1:]),
                   "temporary_bytes": program.memory_analysis().temp_size_in_bytes}
            for name, (program, _) in programs.items()}


def _table(title: str, figures: Mapping[str, Mapping[str, float]]) -> str:
    first = next(iter(figures.values()))["median_ms"]
    width = max(map(len, [title, *figures]))
    lines = [f"{title:{width}}  ms median / minimum   of the first   temporaries, MB"]
    lines += [f"{name:{width}} {each['median_ms']:11.1f} / {each['minimum_ms']:7.1f} {each['median_ms'] / first:13.2f} "
              f"{each['temporary_bytes'] / 1e6:17.0f}" for name, each in figures.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
