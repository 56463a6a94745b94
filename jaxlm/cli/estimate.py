"""`jaxlm study --estimate`: what a study will cost, before anything trains."""

from collections.abc import Iterable, Sequence
from typing import Any

from jaxlm.cli.table import render, size

TITLES = ("runs", "", "N", "updates", "tokens", "FLOPs", "state", "time")


def run(study: Any, root: Any, *, flops_per_second: float | None) -> int:
    """Prints the estimate of the runs that have not ended, and bounds of the stages that are still to be planned."""
    from jaxlm.sweep.estimate import Speed, measured_speed
    from jaxlm.sweep.executor import ENDED
    from jaxlm.sweep.pending import recorded_states

    bounds = [run for stage in study.stages for run in stage.bound or ()]
    speed = measured_speed(root, (*study.runs, *bounds)) if flops_per_second is None else Speed(
        given=flops_per_second, source=f"at the given {flops_per_second:.3g} FLOP/s")
    print(f"{study.name}: {study.question}\n")
    known = {run.folder for run in study.runs}
    everything: list[Any] = []
    unbounded = []
    for stage in study.stages:
        states = recorded_states(root, [run.folder for run in stage.runs])
        runs = [run for run in stage.runs if states[run.folder] not in ENDED]
        ended = len(stage.runs) - len(runs)
        if runs or ended or stage.plan is None:
            print(f"{stage.title}: {len(runs)} runs" + (f", {ended} more have ended" if ended else ""))
        _table(runs, speed)
        everything += runs
        if stage.plan is not None:
            later = list({run.folder: run for run in stage.bound or () if run.folder not in known}.values())
            print(f"{stage.title}: planned from the records before it, " + (
                "how many runs is not known" if stage.bound is None else
                f"at most {len(later)} runs{_cost(later, speed)}" if later else "no further runs"))
            everything += later
            unbounded += [stage.title] if stage.bound is None else []
    _totals(everything, speed, bounded=bool(bounds), unbounded=unbounded)
    return 0


def _table(runs: Sequence[Any], speed: Any) -> None:
    """Prints a line for all runs of one shape and length together."""
    from jaxlm.sweep.estimate import estimate

    shapes: dict[Any, list[Any]] = {}
    for run in runs:
        shapes.setdefault((estimate(run), _time(speed.seconds(run))), []).append(run)
    rows = []
    for (each, seconds), alike in shapes.items():
        name = alike[0].name + (f" and {len(alike) - 1} more" if len(alike) > 1 else "")
        rows.append([str(len(alike)), name, f"{each.parameters:,}", f"{each.updates:,}", f"{each.tokens:,}",
                     f"{each.flops:.3g}", size(each.state_bytes), seconds])
    if rows:
        print("\n".join(f"  {line}" for line in render(TITLES, rows, left=("",)).splitlines()))


def _cost(runs: Sequence[Any], speed: Any) -> str:
    from jaxlm.sweep.estimate import estimate

    seconds = [speed.seconds(run) for run in runs]
    time = "" if None in seconds else f", {_time(sum(seconds))} one after the other"
    return f", {sum(estimate(run).flops for run in runs):.3g} FLOPs{time}"


def _totals(runs: Sequence[Any], speed: Any, *, bounded: bool, unbounded: Iterable[str]) -> None:
    """Prints what all runs take together."""
    from jaxlm.sweep.estimate import estimate, total

    whole, seconds = total([estimate(run) for run in runs]), [speed.seconds(run) for run in runs]
    at_most = "at most " if bounded else ""
    print(f"\naltogether {at_most}{len(runs)} runs, {whole.tokens:,} tokens, {whole.flops:.3g} FLOPs; the largest has "
          f"{whole.parameters:,} parameters and {size(whole.state_bytes)} of parameters and optimizer state")
    for title in unbounded:
        print(f"without the runs of {title!r}, which states no bound")
    if not runs:
        return
    if None in seconds:
        print("time not known: no run of this study has finished on this machine; give --flops-per-second")
        return
    hours = sum(seconds) / 3600
    threads = f" ({speed.threads} cores a run)" if speed.threads > 1 else ""
    print(f"time {at_most}{_time(sum(seconds))} one after the other, the longest {_time(max(seconds))}; "
          f"{hours * speed.threads:.3g} core-hours{threads}, {speed.source}; "
          "compilation, evaluation and checkpoints apart")


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    whole = int(seconds + 0.5)
    if whole < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"
