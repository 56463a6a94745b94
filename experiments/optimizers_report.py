"""Table and picture of the study of optimizers; reads nothing but the records."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import seeds

from jaxlm import config as configs
from jaxlm import model
from jaxlm.model import ModelConfig
from jaxlm.optim import make_optimizer
from jaxlm.optim.memory import state_bytes
from jaxlm.optim.registry import OptimizerConfig
from jaxlm.sweep import RateGrid
from scaling import record
from scaling.errors import InputError

BASELINE = "adamw"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """What is known of one optimizer.

    Attributes:
      kind: the optimizer.
      rate: its best peak rate.
      grid: held-out loss by rate, one seed, ascending.
      seeds: of its runs at the best rate; one that diverged is missing.
      steps: [evaluations] updates made at each point of its curves.
      tokens: [evaluations] tokens seen there.
      curves: [seeds, evaluations] held-out losses, nats per byte.
      step_seconds: median seconds of an update on a pinned core, over the seeds' runs.
      state_bytes: of optimizer state.
    """

    kind: str
    rate: float
    grid: dict[float, float]
    seeds: tuple[int, ...]
    steps: np.ndarray
    tokens: np.ndarray
    curves: np.ndarray
    step_seconds: float
    state_bytes: int

    @property
    def final(self) -> np.ndarray:
        """[seeds] the last held-out losses."""
        return self.curves[:, -1]


def draw(root: Path, *, grid: RateGrid) -> None:
    """Writes table.csv, report.md and curves.png into the study's folder; prints the table."""
    rows = sorted(read(root, grid), key=lambda row: row.final.mean())
    baseline = next((row for row in rows if row.kind == BASELINE), None)
    if baseline is None:
        raise InputError(f"runs: no finished runs of {BASELINE}, which the others are compared with")
    lines = [line(row, baseline) for row in rows]
    seeds.write_csv(root / "table.csv", lines)
    plot(rows, root / "curves.png")
    notes = findings(rows, baseline)
    (root / "report.md").write_text(markdown(setting(root), lines, notes))
    seeds.print_table(lines)
    print("\n".join(notes))
    print(f"report: {root / 'report.md'}; picture: curves.png; table: table.csv")


def read(root: Path, grid: RateGrid) -> list[Row]:
    """Returns a row per optimizer that has finished runs at its best rate with more than one seed."""
    rows = []
    for kind in grid.arms:
        best = grid.best(root, kind)
        at_best = {seed: runs[-1] for seed, runs in grid.finished(root, kind, best).items()}
        if len(at_best) < 2:
            continue
        first = next(iter(at_best.values()))
        seen = np.isfinite(first.metrics["heldout_loss"])
        rows.append(Row(
            kind=kind, rate=best, grid=grid.scores(root, kind), seeds=tuple(at_best),
            steps=first.metrics["step"][seen] + 1, tokens=first.metrics["tokens"][seen],
            curves=np.stack([run.metrics["heldout_loss"][seen] for run in at_best.values()]),
            step_seconds=float(np.median(np.concatenate([run.metrics["seconds"] for run in at_best.values()]))),
            state_bytes=bytes_of(first)))
    return rows


def bytes_of(run: record.Run) -> int:
    """Returns the bytes of the run's optimizer state."""
    identity = run.identity["config"]
    infos = model.param_infos(configs.from_dict(ModelConfig, identity["model"]))
    shapes = jax.tree.map(lambda info: jax.ShapeDtypeStruct(info.shape, jnp.float32), infos)
    optimizer = configs.from_dict(OptimizerConfig, identity["optimizer"])
    return state_bytes(make_optimizer(optimizer, infos, clip_norm=None), shapes).total


def line(row: Row, baseline: Row) -> dict[str, str]:
    """Returns one line of the table; differences are paired by seed, which fixes data and initialisation."""
    difference, spread = seeds.interval(paired(row, baseline))
    own = row is baseline
    return {"optimizer": row.kind, "peak rate": f"{row.rate:g}",
            "loss": seeds.with_interval(*seeds.interval(row.final)),
            f"minus {BASELINE}": "" if own else seeds.with_interval(difference, spread, signed=True),
            "verdict": "" if own else seeds.verdict(difference, spread),
            "tokens to its loss": "" if own else tokens_to(row, baseline), "ms / update": f"{1e3 * row.step_seconds:.1f}",
            "state KiB": f"{row.state_bytes / 1024:.0f}"}


def paired(row: Row, baseline: Row) -> np.ndarray:
    """Returns the differences of the last losses, one for each seed that both have."""
    return seeds.paired(row.kind, dict(zip(row.seeds, row.final)), dict(zip(baseline.seeds, baseline.final)))


def tokens_to(row: Row, baseline: Row) -> str:
    """Returns the share of the tokens after which the row's mean curve is at the baseline's last loss."""
    curve, goal = row.curves.mean(axis=0), baseline.final.mean()
    below = np.flatnonzero(curve <= goal)
    return f"{row.tokens[below[0]] / row.tokens[-1]:.0%}" if len(below) else "not reached"


def findings(rows: list[Row], baseline: Row) -> list[str]:
    """Returns nulls and reversals in words: what the intervals do not show, and where the order along the run turns."""
    nulls = [row.kind for row in rows if row is not baseline and not _shown(row, baseline)]
    notes = [f"Not told apart from {BASELINE} by {len(baseline.final)} seeds: {', '.join(nulls)}."] if nulls else []
    half = len(baseline.tokens) // 2
    turned = []
    for row in rows:
        early, late = (row.curves[:, at].mean() - baseline.curves[:, at].mean() for at in (half, -1))
        if row is not baseline and early * late < 0:
            turned.append(f"{row.kind} ({early:+.4f} at half the tokens, {late:+.4f} at the end)")
    notes.append(f"Order against {BASELINE} turns between half the tokens and the end: {', '.join(turned) or 'none'}.")
    slower = [row.kind for row in rows if row.final.mean() < baseline.final.mean()
              and row.step_seconds > 1.05 * baseline.step_seconds * _share(row, baseline)]
    if slower:
        notes.append(f"Lower loss per token but not per second on a core: {', '.join(slower)}.")
    notes.append(f"Intervals: {seeds.LEVEL:.0%}, t with {len(baseline.final) - 1} degrees of freedom over seeds, differences paired by "
                 "seed; the rate was picked on the first seed, which favours no optimizer but flatters all.")
    return notes


def _shown(row: Row, baseline: Row) -> bool:
    difference, half = seeds.interval(paired(row, baseline))
    return abs(difference) > half


def _share(row: Row, baseline: Row) -> float:
    """How many baseline updates one update of the row may cost and still arrive at the same time."""
    below = np.flatnonzero(row.curves.mean(axis=0) <= baseline.final.mean())
    return float(row.tokens[-1] / row.tokens[below[0]]) if len(below) else 1.0


def setting(root: Path) -> str:
    """Returns what all runs share, in a sentence or two."""
    run = record.read(record.find(root)[0])
    config, counts = run.identity["config"], run.identity["params"]
    return (f"{counts['total']:,} parameters ({config['model']['layers']} layers of width {config['model']['width']}), "
            f"{run.identity['tokens_per_update'] * config['updates']:,} tokens of {run.identity['corpus']['name']} in "
            f"{config['updates']} updates, warm-up, hold and a fifth of cooldown, clipping at {config['clip_norm']:g}, no weight "
            "decay. Losses in nats per byte on held-out text. One size, one text, one batch: nothing here says what "
            "happens at another.")


def markdown(head: str, lines: list[dict[str, str]], notes: list[str]) -> str:
    """Returns the report as text with one table."""
    head += "\n\n![Loss against tokens and time, and the rate grids](curves.png)\n\n"
    return head + seeds.markdown_table(lines) + "\n" + "\n".join(f"* {note}" for note in notes) + "\n"


def plot(rows: list[Row], path: Path) -> None:
    """Draws loss against tokens, loss against seconds, and the grids."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.2), layout="constrained")
    by_tokens, by_time, grids = figure.subplots(1, 3)
    marks: list[Any] = ["o", "s", "^", "v", "D", "P", "X", "<", ">"]
    for i, row in enumerate(rows):
        color, mean = f"C{i}", row.curves.mean(axis=0)
        by_tokens.plot(row.tokens / 1e6, mean, color=color, marker=marks[i], markersize=3, label=row.kind)
        by_tokens.fill_between(row.tokens / 1e6, row.curves.min(axis=0), row.curves.max(axis=0), color=color, alpha=0.15)
        by_time.plot(row.steps * row.step_seconds, mean, color=color, marker=marks[i], markersize=3)
        grids.plot(list(row.grid), list(row.grid.values()), color=color, marker=marks[i], markersize=4)
    best = min(row.final.mean() for row in rows)
    by_time.set(xlabel="seconds of updates on one core", title="the same curves in time")
    for axes in (by_tokens, by_time):
        axes.set_ylim(best - 0.05, best + 1)
    by_tokens.set(xlabel="tokens (millions)", ylabel="held-out loss (nats per byte)", title="three seeds: mean and range")
    by_tokens.legend(fontsize=8, ncols=2)
    grids.set(xscale="log", xlabel="peak rate", title="rate grids, first seed", ylim=(best - 0.05, best + 1))
    figure.savefig(path, dpi=110)
