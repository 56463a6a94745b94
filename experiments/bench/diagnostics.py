"""What each diagnostic costs, as a share of the standard step, turn by turn in one process.

    python experiments/bench/diagnostics.py [--rounds 8] [--accumulation 4] [--sequences 4] [--out FILE]

The standard step of `standard_step.py` with and without diagnostics, in one micro-batch and in several, and
what is computed beside the step. "every = 1" is the cost where each update has a row, "every = 100" where
each hundredth has: what the step itself measures is paid at every update, the rest once a row. What is
read from the record later (noise scale, ratios) costs a run nothing. Medians; shares are medians over
rounds of the ratio within a round, so that other load falls on both sides alike.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import sides

TARGET = 0.01  # of a step, everything together, a row every 100 updates


def main() -> None:
    """Measures, prints the table, and writes the figures where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=_at_least_one, default=8, help="turns of each contestant (default 8)")
    parser.add_argument("--accumulation", type=_at_least_one, default=4, help="micro-batches (default 4)")
    parser.add_argument("--sequences", type=_at_least_one, default=4, help="diagnostics.sequences (default 4)")
    parser.add_argument("--out", type=Path, help="write all figures to this JSON file")
    args = parser.parse_args()
    batch = sides.STANDARD["batch"]
    if batch % args.accumulation or args.accumulation == 1:
        parser.error(f"--accumulation = {args.accumulation}: must divide the batch of {batch} and be above 1")
    if args.sequences > batch:
        parser.error(f"--sequences = {args.sequences}: must not exceed the batch of {batch}")
    figures = measure(sides.STANDARD, rounds=args.rounds, accumulation=args.accumulation,
                      sequences=args.sequences)
    print(table(figures))
    if args.out:
        args.out.write_text(json.dumps(figures, indent=2) + "\n")


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number of at least 1")
    return int(text)


def measure(sizes: dict[str, int], *, rounds: int, accumulation: int, sequences: int) -> dict[str, Any]:
    """Returns wall and CPU seconds of every turn, and the cost of each diagnostic as a share of a step."""
    contestants = _contestants(sizes, accumulation, sequences)
    for _ in range(2):  # the first call compiles, the second still grows the heap
        for call in contestants.values():
            call()
    turns: dict[str, dict[str, list[float]]] = {name: {"seconds": [], "cpu_seconds": []} for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            turns[name]["seconds"].append(time.perf_counter() - wall)
            turns[name]["cpu_seconds"].append(time.process_time() - cpu)
    return {"sizes": sizes, "rounds": rounds, "accumulation": accumulation, "sequences": sequences, "turns": turns,
            "shares": {key: _shares(turns, key, accumulation) for key in ("seconds", "cpu_seconds")}}


def _contestants(sizes: dict[str, int], accumulation: int, sequences: int) -> dict[str, Callable[[], None]]:
    import jax
    import numpy as np

    from jaxlm import model
    from jaxlm.train import make_step
    from jaxlm.train.diagnostics import block_rms, squared_norm
    from scaling.diagnostics import SPIKE_WINDOW, spikes

    plain = sides.step_config(sizes)
    split = dataclasses.replace(plain, accumulation=accumulation)
    on = {"diagnostics": True}
    compiled = make_step(dataclasses.replace(plain, **on))
    params = _Stepper(compiled, plain, sizes).state.params
    # A copy: the steps donate theirs.
    params = jax.tree.map(lambda leaf: leaf + 0, params)
    tokens = _tokens(sizes)
    some = tokens[:sequences, None]  # one after the other, as on one device
    losses = np.random.default_rng(0).normal(3, 0.02, SPIKE_WINDOW + 16)

    def observe(some: Any) -> None:
        jax.device_get(compiled.diagnose(params, tokens, some, np.int32(1), np.uint32(0)))

    infos = model.param_infos(plain.model)
    blocks = jax.jit(lambda tree: block_rms(tree, infos))
    norm = jax.jit(lambda a, b: squared_norm(jax.tree.map(jax.numpy.subtract, a, b)))

    return {
        "step": _Stepper(make_step(plain), plain, sizes),
        "step, measured": _Stepper(compiled, plain, sizes),
        "split step": _Stepper(make_step(split), split, sizes),
        "split step, measured": _Stepper(make_step(dataclasses.replace(split, **on)), split, sizes),
        "blocks": lambda: jax.device_get(blocks(params)),
        "micro-batch norm": lambda: jax.device_get(norm(params, params)),
        "probe": lambda: observe(None),
        "probe and sequences": lambda: observe(some),
        "spikes": lambda: spikes(losses, first=SPIKE_WINDOW),  # of a call of 16 updates
    }


def _tokens(sizes: dict[str, int]) -> Any:
    import numpy as np

    shape = (sizes["batch"], sizes["sequence"] + 1)
    return np.random.default_rng(0).integers(0, sizes["vocabulary"], shape, dtype=np.int32)


class _Stepper:
    """Makes one update a call, with the size of buffer that a run has by default."""

    def __init__(self, compiled: Any, config: Any, sizes: dict[str, int]):
        import jax
        import numpy as np
        from jax.sharding import NamedSharding, PartitionSpec

        from jaxlm.train import RunConfig
        from jaxlm.train.state import init_state

        self.compiled = compiled
        self.state = init_state(config.model, compiled.tx, mesh=compiled.mesh, seed=0)
        self.healthy = jax.device_put(True, NamedSharding(compiled.mesh, PartitionSpec()))
        tokens = _tokens(sizes).reshape(config.accumulation, -1, sizes["sequence"] + 1)
        self.batches = np.broadcast_to(tokens, (RunConfig.chunk, *tokens.shape))
        self.lrs = np.full(RunConfig.chunk, sides.LR, np.float32)

    def __call__(self) -> None:
        import jax
        import numpy as np

        self.state, self.healthy, made, metrics = self.compiled.run_chunk(
            self.state, self.healthy, self.batches, self.lrs, np.int32(1), np.float32(sides.WEIGHT_DECAY),
            np.uint32(0))
        jax.device_get((made, metrics))


def _shares(turns: dict[str, dict[str, list[float]]], key: str, accumulation: int) -> dict[str, dict[str, float]]:
    """{diagnostic: {"every 1", "every 100"}} in steps.

    What the step measures is timed alone, for it is less than the scatter of steps on a machine with
    other load; the two steps themselves are compared in `table`.
    """
    def share(name: str, less: str | None = None, *, of: str = "step") -> float:
        own, base = turns[name][key], turns[less][key] if less else [0.0] * len(turns[name][key])
        return statistics.median((a - b) / c for a, b, c in zip(own, base, turns[of][key], strict=True))

    def both(in_step: float, a_row: float) -> dict[str, float]:
        return {"every 1": in_step + a_row, "every 100": in_step + a_row / 100}

    blocks, probe = share("blocks"), share("probe")
    micro = accumulation * share("micro-batch norm", of="split step")
    single, spikes = share("probe and sequences", "probe"), share("spikes") / 16
    return {
        "update rms by block": both(blocks, 0.0),
        "norms of micro-batches, with accumulation": both(micro, 0.0),
        "attention, residual stream and parameters by layer": both(0.0, probe),
        "gradients of single sequences": both(0.0, single),
        "note of spikes, always on": both(spikes, 0.0),
        "all, one micro-batch": both(blocks + spikes, probe + single),
        "all, with accumulation": both(blocks + micro + spikes, probe),
    }


def table(figures: dict[str, Any]) -> str:
    """Returns the figures as a small table and the verdict."""
    wall, cpu = figures["shares"]["seconds"], figures["shares"]["cpu_seconds"]
    step = statistics.median(figures["turns"]["step"]["seconds"])
    lines = [f"{'cost in % of a step':52} {'every = 1':>10} {'(CPU)':>8} {'every = 100':>12} {'(CPU)':>8}"]
    lines += [f"{name:52} {100 * wall[name]['every 1']:10.2f} {100 * cpu[name]['every 1']:8.2f} "
              f"{100 * wall[name]['every 100']:12.3f} {100 * cpu[name]['every 100']:8.3f}" for name in wall]
    worst = max(shares[name]["every 100"] for shares in (wall, cpu) for name in shares)
    for plain, name in (("step", "one micro-batch"), ("split step", "several")):
        ratios = [statistics.median(a / b for a, b in zip(
            figures["turns"][f"{plain}, measured"][key], figures["turns"][plain][key], strict=True))
            for key in ("seconds", "cpu_seconds")]
        lines.append(f"step with what it measures itself over the step without, {name}: {ratios[0]:.3f} wall, "
                     f"{ratios[1]:.3f} CPU")
    lines.append(f"a step takes {1e3 * step:.0f} ms; {figures['accumulation']} micro-batches, {figures['sequences']} "
                 f"single sequences, {figures['rounds']} rounds")
    lines.append(f"target: all of it at most {100 * TARGET:.0f}% of a step with every = 100: "
                 f"{'met' if worst <= TARGET else 'missed'} (worst line {100 * worst:.2f}%)")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
