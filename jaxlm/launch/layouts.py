"""Which mesh to take: every layout of a run on a slice, ranked by formula until it is measured."""

import dataclasses
import math
from collections.abc import Iterator

from jaxlm.config import ConfigError
from jaxlm.launch import estimate
from jaxlm.launch.plan import Plan, plan
from jaxlm.launch.slices import SLICES, Slice
from jaxlm.parallel import MeshConfig
from jaxlm.train.config import RunConfig


def rank_layouts(run: RunConfig, where: Slice, *, slices: int = 1, count: int = 8) -> list[Plan]:
    """Returns the plans by formula of the `count` best meshes that cover `slices` slices and divide the run.

    Those that fit come first, the fastest by roofline ahead. Those within a twentieth of the fastest count as equal:
    of them the one with the smallest tensor * sequence leads, whose sums and gathers the next product has to wait
    for, then the one that moves less over the links, then the one that holds less. Only measuring tells them apart.

    Raises `ConfigError` where no mesh divides the run, with the reason of the one that only splits the batch.
    """
    found, reason, tried = [], None, []
    for axes in _meshes(where.chips, slices):
        try:
            tried.append(run.replace(mesh=dataclasses.replace(run.mesh, **axes)))
        except ConfigError as error:
            reason = reason or error
    for candidate in _sorted(tried, where):
        try:
            found.append(plan(candidate, where, compiled=False))
        except ConfigError as error:
            reason = reason or error
        if len(found) == count:
            break
    if not found:
        raise ConfigError(f"no layout of {slices * where.chips} chips divides the run: {reason}")
    return found


def best_layout(run: RunConfig, where: Slice) -> RunConfig:
    """Returns `run` on the first mesh of `rank_layouts`, or on its own where it names one."""
    if run.mesh.shape != MeshConfig().shape or where.chips == 1:
        return run
    return rank_layouts(run, where, count=1)[0].run


def smallest_slice(run: RunConfig, where: Slice, *, but: MeshConfig | None = None) -> Slice | None:
    """Returns the smallest slice of `where`'s generation on which a layout of `run` fits by formula; None for none.

    The mesh `but`, which a compiler has refused, does not count.
    """
    family = [each for each in SLICES.values() if each.chip == where.chip]
    for each in sorted(family, key=lambda each: each.chips):
        try:
            if any(made.fits and made.run.mesh != but for made in rank_layouts(run, each, count=2)):
                return each
        except ConfigError:
            continue
    return None


def _sorted(runs: list[RunConfig], where: Slice) -> list[RunConfig]:
    times = {run.mesh: estimate.roofline(estimate.work(run), where.chip) for run in runs}
    needed = {run.mesh: estimate.held_bytes(run, even=True).total for run in runs}
    large = {mesh: total > where.chip.usable_bytes for mesh, total in needed.items()}
    best = min((times[mesh].seconds for mesh in times if not large[mesh]), default=0.0)

    def order(run: RunConfig) -> tuple:
        mesh, roofline = run.mesh, times[run.mesh]
        return (large[mesh], max(roofline.seconds, 1.05 * best), mesh.tensor * mesh.sequence,
                roofline.ici + roofline.dcn, needed[mesh])

    return sorted(runs, key=order)


def _meshes(chips: int, slices: int) -> Iterator[dict[str, int]]:
    """Every (data, fsdp, tensor, sequence) whose product is `chips`, those that only split the batch first."""
    for tensor, sequence in sorted(((t, s) for t in _divisors(chips) for s in _divisors(chips // t)), key=math.prod):
        rest = chips // (tensor * sequence)
        for fsdp in reversed(_divisors(rest)):
            yield {"replica": slices, "data": rest // fsdp, "fsdp": fsdp, "tensor": tensor, "sequence": sequence}


def _divisors(number: int) -> list[int]:
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]
