"""What a checkpoint costs: how long training stalls for it, how long until it is on disk, and its bytes.

    python experiments/bench/saving.py [--rounds 9]

The state of the standard model (3.5 M parameters with AdamW's moments, 42 MB) is saved by turns with
Orbax, asynchronously as a run does it, and with `np.savez` in the way of the training thread. The stall
is what the training thread waits for; medians, and the ratio of the stalls.
"""

import argparse
import logging
import statistics
import tempfile
import time
from pathlib import Path

import jax
import numpy as np


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    logging.getLogger("absl").setLevel(logging.ERROR)
    state = make_state()
    arrays = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    with tempfile.TemporaryDirectory() as folder:
        stalls, ends, size = save_by_turns(state, Path(folder), rounds)
    print(f"state of {arrays / 1e6:.1f} MB, {rounds} rounds, medians")
    for name in stalls:
        stall, end = statistics.median(stalls[name]), statistics.median(ends[name])
        print(f"  {name:8} stall {1e3 * stall:7.1f} ms   on disk after {1e3 * end:7.1f} ms   {size[name] / 1e6:6.1f} MB")
    ratio = statistics.median(a / b for a, b in zip(stalls["orbax"], stalls["np.savez"]))
    print(f"  stall over np.savez's: {ratio:.2f}; bytes: {size['orbax'] / size['np.savez']:.2f}")


def make_state() -> object:
    """Returns the training state of the standard model."""
    from jaxlm.model import ModelConfig
    from jaxlm.optim import AdamW
    from jaxlm.parallel import MeshConfig, make_mesh
    from jaxlm.train.state import init_state, run_optimizer

    model = ModelConfig(vocabulary=4096, sequence=256, layers=4, width=256, heads=4, ff=1024, norm="layernorm",
                        positions="learned", activation="gelu", tied=True)
    tx = run_optimizer(model, AdamW(), None)
    state = init_state(model, tx, mesh=make_mesh(MeshConfig()), seed=0)
    # Moments are zeros at first, and zeros compress to nothing.
    return jax.block_until_ready(jax.tree.map(
        lambda leaf: jax.random.normal(jax.random.key(1), leaf.shape) if leaf.dtype == np.float32 else leaf, state))


def save_by_turns(state: object, folder: Path, rounds: int) -> tuple[dict, dict, dict]:
    """Returns {name: seconds the caller waits}, {name: seconds until on disk}, {name: bytes}."""
    from jaxlm.train import CheckpointConfig
    from jaxlm.train import checkpoint as checkpoints

    stalls, ends, size = {"orbax": [], "np.savez": []}, {"orbax": [], "np.savez": []}, {}
    place = checkpoints.checkpoint_folder(folder, "run")
    with checkpoints.open_checkpoints(place, CheckpointConfig(latest=1)) as manager:
        for step in range(rounds + 1):
            began = time.perf_counter()
            checkpoints.save(manager, step, state, heldout_loss=None)
            waited = time.perf_counter() - began
            checkpoints.finish(manager)
            took = {"orbax": (waited, time.perf_counter() - began)}
            began = time.perf_counter()
            np.savez(folder / "state.npz", *map(np.asarray, jax.tree.leaves(state)))
            waited = time.perf_counter() - began
            took["np.savez"] = (waited, waited)
            for name, (stall, end) in took.items() if step else ():  # the first round compiles the checksum
                stalls[name].append(stall)
                ends[name].append(end)
        size["orbax"] = sum(path.stat().st_size for path in Path(place).rglob("*") if path.is_file())
        size["np.savez"] = (folder / "state.npz").stat().st_size
    return stalls, ends, size


if __name__ == "__main__":
    main()
