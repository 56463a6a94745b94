"""`jaxlm runs show`: everything about one run."""

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from jaxlm.cli import disk
from jaxlm.cli.recorded.select import find_run
from jaxlm.cli.table import render, size
from jaxlm.config import require
from scaling import diagnostics, record
from scaling.errors import InputError
from scaling.record import export, schema
from scaling.record.summary import Summary

# Of an attempt: what says when and where in the run it started, and not under which conditions.
NOT_CONDITIONS = ("attempt", "started", "first_step", "command")
ROWS = 5
ROW_FIELDS = ("step", "tokens", "lr", "train_loss", "heldout_loss", "grad_l2", "seconds")


def run(name: str, root: str, *, plot: Path | None) -> int:
    """Prints the run that `name` names, looked for under `root`, and draws its losses to `plot`."""
    folder = find_run(name, root)
    short, full = record.summarise(folder), record.read(folder)
    if plot is not None:
        require(plot.suffix in (".png", ".pdf", ".svg"), "plot", str(plot), "must end in .png, .pdf or .svg")
        require(plot.parent.is_dir(), "plot", str(plot), "must name a file in a folder that is there")
    sections = {"": heading(short), "configuration": configuration(short), "attempts": attempts(short),
                "result": result(short), "checkpoints": checkpoints(short),
                f"last {ROWS} rows": last_rows(full), "diagnostics, the last row": diagnosed(full),
                "set aside as damaged": damaged(folder), "notes of the reader": list(full.notes)}
    for title, lines in sections.items():
        if lines:
            print("\n".join([f"\n{title}", *(f"  {line}" for line in lines)] if title else lines))
    if plot is not None:
        draw(full, plot)
        print(f"\ndrawn: {plot}")
    return 0


def heading(one: Summary) -> list[str]:
    """Returns the lines that say which run it is, how large, and where it stands."""
    identity, parent = one.identity, one.identity["parent"]
    flops = {part: value for part, value in identity["flops_per_token"].items() if value}
    counts = ", ".join(f"{counting} {one.n(counting):,}" for counting in schema.COUNTINGS)
    parts = ", ".join(f"{part} {value:,}" for part, value in flops.items())
    reason = one.status["reason"]
    lines = [
        one.name,
        f"folder      {one.folder}",
        f"status      {one.state}{': ' + reason if reason else ''}, {one.updates} of {one.length} updates",
        f"study       {one.study or '(none)'}",
        f"seed        {one.seed}",
        f"text        {identity['corpus']['name']}, digest {identity['corpus']['digest'][:16]}",
        f"parameters  {counts}",
        f"tokens      {one.tokens:,}, {one.batch_tokens:,} an update",
        f"FLOP/token  {sum(flops.values()):,} ({parts})",
        f"peak lr     {one.peak_lr:.6g}",
    ]
    for title, origin in (("branch of   ", parent), ("starts from ", one.initial)):
        if origin:
            lines.insert(4, f"{title}{origin['run']} at step {origin['step']}")
    return lines


def configuration(one: Summary) -> list[str]:
    """Returns a line for each field of the configuration."""
    flat = {name.removeprefix("config."): value
            for name, value in export.flatten("config", one.identity["config"]).items()}
    width = max(map(len, flat), default=0)
    return [f"{name:{width}}  {json.dumps(value)}" for name, value in flat.items()]


def attempts(one: Summary) -> list[str]:
    """Returns a table of the starts, each with the conditions in which it differs from the one before."""
    rows = []
    for i, entry in enumerate(one.attempts):
        before = one.attempts[i - 1] if i else entry
        own = [str(entry.get(key, "")) for key in ("started", "host", "first_step")]
        rows.append([str(i), *own, f"{seconds(one.folder, i):.1f}", "; ".join(changed(before, entry))])
    titles = ("attempt", "started", "host", "first step", "seconds", "differs from the one before")
    return render(titles, rows, left=titles[1:3] + titles[5:]).splitlines() if rows else []


def seconds(folder: Path, attempt: int) -> float:
    """Returns the wall seconds that one attempt spent on the updates which it recorded."""
    total = 0.0
    for path in (folder / "metrics").glob(f"{attempt}-*.jsonl"):
        for line in path.read_text(errors="replace").splitlines():
            # Damaged lines are named in the notes of the reader.
            with contextlib.suppress(ValueError, AttributeError, TypeError):
                total += json.loads(line).get("seconds") or 0.0
    return total


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Returns `field: old -> new` for each measured field in which two attempts differ, times apart."""
    a, b = (export.flatten("", {key: value for key, value in entry.items() if key not in NOT_CONDITIONS})
            for entry in (before, after))
    # Of digests and long lists the beginning will do.
    return [f"{key[1:]}: {str(a.get(key))[:40]} -> {str(b.get(key))[:40]}"
            for key in dict.fromkeys([*a, *b]) if a.get(key) != b.get(key)]


def result(one: Summary) -> list[str]:
    """Returns a line for each field of the result, in bits per byte too where that is known."""
    if one.result is None:
        return []
    lines = [f"{name:14}{value}" for name, value in one.result.items()]
    return lines + ([f"{'bits/byte':14}{one.bits_per_byte:.6f}"] if not math.isnan(one.bits_per_byte) else [])


def checkpoints(one: Summary) -> list[str]:
    """Returns a line for each committed checkpoint and for each left over by an interrupted save."""
    root = one.folder / "checkpoints"
    lines = [f"step {step:>9,}  {size(disk.tree_bytes(root / str(step))):>10}"
             for step in disk.saved_steps(one.folder)]
    return lines + [f"{path.name}: not committed, {size(disk.tree_bytes(path))}"
                    for path in disk.leftovers(one.folder)]


def damaged(folder: Path) -> list[str]:
    """Returns the names of the checkpoints that were found damaged and set aside."""
    aside = folder / "damaged"
    return sorted(f"{aside.name}/{path.name}" for path in aside.iterdir()) if aside.is_dir() else []


def last_rows(full: record.Run) -> list[str]:
    """Returns the last rows of the metrics as a table."""
    rows = [[_number(full.metrics[name][i]) for name in ROW_FIELDS]
            for i in range(max(full.metrics["step"].size - ROWS, 0), full.metrics["step"].size)]
    return render(ROW_FIELDS, rows).splitlines() if rows else []


def diagnosed(full: record.Run) -> list[str]:
    """Returns the last row of the diagnostics with what follows from all of them, and the loss spikes."""
    rows, spiked = full.diagnostics, diagnostics.spikes(full.metrics["train_loss"])
    lines = [f"loss spikes at update {', '.join(str(full.metrics['step'][i]) for i in spiked)}"] if spiked.size else []
    if not rows["step"].size:
        return lines
    with contextlib.suppress(InputError):  # no gradients of two batch sizes
        noise = diagnostics.noise_scale(full)
        lines.append(f"{'noise scale':20} {noise.sequences[-1]:.4g} sequences, {noise.tokens[-1]:.4g} tokens")
    ratios = {"update ratio": diagnostics.update_ratio(full)}
    for name, column in {"step": rows["step"], **ratios, **{name: rows[name] for name in rows if name != "step"}}.items():
        text = " ".join(_number(value) for value in np.atleast_1d(column[-1]))
        lines += [f"{name:20} {text}"] if text.strip() else []
    return lines


def draw(full: record.Run, path: Path) -> None:
    """Draws training loss, held-out loss and learning rate against tokens; needs the extra `plots`."""
    from jaxlm.data.extras import load_extra

    load_extra("matplotlib", "plots")
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    metrics = full.metrics
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot(metrics["tokens"], metrics["train_loss"], color="tab:blue", linewidth=1, label="training batch")
    seen = metrics["heldout_loss"] == metrics["heldout_loss"]
    if seen.any():
        axes.plot(metrics["tokens"][seen], metrics["heldout_loss"][seen], "o-", color="tab:red", markersize=4,
                  linewidth=1, label="held out")
    axes.set(xlabel="tokens", ylabel=f"loss ({full.loss_unit.replace('/', ' per ')})", title=full.name)
    rates = axes.twinx()
    rates.plot(metrics["tokens"], metrics["lr"], color="0.7", linewidth=1, label="learning rate")
    rates.set(ylabel="learning rate")
    rates.set_ylim(bottom=0)
    axes.set_zorder(rates.get_zorder() + 1)  # the losses over the rate
    axes.patch.set_visible(False)
    lines = axes.get_lines() + rates.get_lines()
    axes.xaxis.set_major_formatter(EngFormatter())
    figure.legend(lines, [line.get_label() for line in lines], frameon=False, ncols=3,
                  loc="outside lower center")
    figure.savefig(path, dpi=150)


def _number(value: Any) -> str:
    if value != value:  # NaN
        return ""
    return str(int(value)) if float(value).is_integer() and abs(value) >= 1 else f"{value:.5g}"
